//! A table over dense numbers that costs what it holds: pages of cells, made when first written to. A map's entry of a record
//! would cost five times as much.

const PAGE_CELLS: u64 = 1024;
/// The largest number plus one: beyond it, the table of pages alone would be large.
pub(crate) const NUMBERS_MAX: u64 = 1 << 34;

#[derive(Debug)]
pub(crate) struct Pages<T>(Vec<Option<Box<[T]>>>);

impl<T> Default for Pages<T> {
    fn default() -> Pages<T> {
        Pages(Vec::new())
    }
}

impl<T: Copy + Default> Pages<T> {
    /// What is at `number`; the default if nothing was put there.
    pub(crate) fn get(&self, number: u64) -> T {
        let page = usize::try_from(number / PAGE_CELLS).ok().and_then(|page| self.0.get(page)?.as_ref());
        page.map_or_else(T::default, |cells| cells[(number % PAGE_CELLS) as usize])
    }

    /// The cell at `number`, which must be below [`NUMBERS_MAX`].
    pub(crate) fn cell(&mut self, number: u64) -> &mut T {
        assert!(
            number < NUMBERS_MAX,
            "callers look at the bound: a number may be nonsense that a broker told"
        );
        let page = (number / PAGE_CELLS) as usize;
        if self.0.len() <= page {
            self.0.resize_with(page + 1, || None);
        }
        let cells =
            self.0[page].get_or_insert_with(|| vec![T::default(); PAGE_CELLS as usize].into_boxed_slice());
        &mut cells[(number % PAGE_CELLS) as usize]
    }

    /// Every number on a page that was written to, with its cell, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, T)> {
        self.0.iter().zip(0u64..).filter_map(|(page, number)| Some((page.as_ref()?, number))).flat_map(
            |(cells, page)| cells.iter().zip(0u64..).map(move |(cell, at)| (page * PAGE_CELLS + at, *cell)),
        )
    }
}
