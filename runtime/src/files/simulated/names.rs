//! Names: as processes see them, as the device holds them, and the changes between.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::Inode;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    File(Inode),
    Folder,
}

impl Node {
    pub(super) fn inode(self) -> Option<Inode> {
        match self {
            Node::File(inode) => Some(inode),
            Node::Folder => None,
        }
    }
}

type Tree = BTreeMap<PathBuf, Node>;

/// All names of a disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    now: Tree,
    durable: Tree,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Put(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl Change {
    fn apply(&self, to: &mut Tree) {
        match self {
            Change::Put(path, node) => drop(to.insert(path.clone(), *node)),
            Change::Remove(path) => take(to, path).clear(),
            Change::Rename(from, onto) => {
                let moved = take(to, from);
                // A rename of what is not there any more replaces nothing.
                if !moved.is_empty() {
                    take(to, onto);
                }
                for (path, node) in moved {
                    let rest = path.strip_prefix(from).expect("it lies below");
                    let renamed = if rest.as_os_str().is_empty() { onto.clone() } else { onto.join(rest) };
                    to.insert(renamed, node);
                }
            }
        }
    }

    fn is_in(&self, folder: &Path) -> bool {
        let lies = |path: &Path| path.parent() == Some(folder);
        match self {
            Change::Put(path, _) | Change::Remove(path) => lies(path),
            Change::Rename(from, onto) => lies(from) || lies(onto),
        }
    }

    fn folder(&self) -> Option<&Path> {
        match self {
            Change::Put(path, _) | Change::Remove(path) | Change::Rename(_, path) => path.parent(),
        }
    }
}

/// Removes a path and all that lies below it.
fn take(tree: &mut Tree, path: &Path) -> Vec<(PathBuf, Node)> {
    let found: Vec<PathBuf> = below(tree, path).map(|(path, _)| path.clone()).collect();
    found.into_iter().filter_map(|path| tree.remove_entry(&path)).collect()
}

/// A path and all that lies below it: in the order of paths these stand together.
fn below<'a>(tree: &'a Tree, path: &'a Path) -> impl Iterator<Item = (&'a PathBuf, &'a Node)> {
    let from = tree.range::<Path, _>((Bound::Included(path), Bound::Unbounded));
    from.take_while(move |(found, _)| found.starts_with(path))
}

impl Names {
    pub(super) fn get(&self, path: &Path) -> Option<Node> {
        self.now.get(path).copied()
    }

    pub(super) fn now(&self) -> impl Iterator<Item = Node> {
        self.now.values().copied()
    }

    pub(super) fn durable(&self) -> impl Iterator<Item = (&PathBuf, Node)> {
        self.durable.iter().map(|(path, node)| (path, *node))
    }

    /// What lies directly in a folder.
    pub(super) fn children(&self, folder: &Path) -> Vec<(PathBuf, Node)> {
        let children = below(&self.now, folder).filter(|(path, _)| path.parent() == Some(folder));
        children.map(|(path, node)| (path.clone(), *node)).collect()
    }

    pub(super) fn put(&mut self, path: &Path, node: Node) {
        self.change(Change::Put(path.to_owned(), node));
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.change(Change::Remove(path.to_owned()));
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        self.change(Change::Rename(from.to_owned(), to.to_owned()));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.unsynced.push(change);
    }

    /// Makes a folder's names durable.
    pub(super) fn sync(&mut self, folder: &Path) {
        let (synced, rest): (Vec<Change>, Vec<Change>) =
            std::mem::take(&mut self.unsynced).into_iter().partition(|change| change.is_in(folder));
        for change in synced {
            change.apply(&mut self.durable);
        }
        self.unsynced = rest;
    }

    /// Leaves what the device holds and, by the seed, a beginning of each folder's changes, or of all. Gives how many are lost.
    pub(super) fn cut(&mut self, rng: &mut StdRng) -> u64 {
        let unsynced = std::mem::take(&mut self.unsynced);
        let mut lost = 0;
        match rng.random_range(0..3) {
            0 => lost = unsynced.len() as u64,
            // A journal: what was done first is there first.
            1 => {
                let kept = rng.random_range(0..=unsynced.len());
                for change in &unsynced[..kept] {
                    change.apply(&mut self.durable);
                }
                lost = (unsynced.len() - kept) as u64;
            }
            // Each folder by itself.
            _ => {
                let mut stopped: Vec<&Path> = Vec::new();
                for change in &unsynced {
                    let folder = change.folder().unwrap_or(Path::new("/"));
                    if stopped.contains(&folder) || rng.random_bool(0.3) {
                        stopped.push(folder);
                        lost += 1;
                    } else {
                        change.apply(&mut self.durable);
                    }
                }
            }
        }
        self.drop_lost();
        self.now = self.durable.clone();
        lost
    }

    /// What lies in a folder that is not there is not there.
    fn drop_lost(&mut self) {
        let durable = &self.durable;
        let is_lost = |path: &&PathBuf| {
            path.ancestors().skip(1).any(|above| !is_root(above) && !durable.contains_key(above))
        };
        let lost: Vec<PathBuf> = durable.keys().filter(is_lost).cloned().collect();
        for path in lost {
            self.durable.remove(&path);
        }
    }
}

/// The folder that is always there.
pub(super) fn is_root(path: &Path) -> bool {
    path.parent().is_none()
}
