//! Client quotas.

use super::*;
use crate::metadata::image::{QuotaEntity, QuotaName};

fn client(name: &str) -> QuotaEntity {
    QuotaEntity::ClientId(QuotaName::Named(name.to_owned()))
}

/// A quota's key, and its new value.
type Change<'a> = (&'a str, Option<f64>);

fn set(changes: &[(QuotaEntity, &[Change<'_>])]) -> Command {
    let changes = changes.iter().map(|(entity, values)| {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), *value));
        (entity.clone(), values.collect())
    });
    Command::SetClientQuotas(SetClientQuotas { changes: changes.collect() })
}

#[test]
fn quotas_are_set_and_taken_back_and_who_has_none_is_forgotten() {
    let image = check(
        vec![
            set(&[(client("a"), &[("x", Some(1.0)), ("y", Some(2.0))]), (client("b"), &[("x", Some(3.0))])]),
            set(&[
                (client("a"), &[("x", None), ("y", Some(2.5)), ("z", None)]),
                (client("b"), &[("x", None)]),
            ]),
        ],
        DONE,
    );
    assert_eq!(**image.client_quotas(), [(client("a"), [("y".to_owned(), 2.5)].into())].into());
    // What changes nothing leaves the same `Arc`, by which a change is noticed.
    let mut again = image.clone();
    ok(&mut again, set(&[(client("a"), &[("y", Some(2.5))])]));
    assert!(Arc::ptr_eq(again.client_quotas(), image.client_quotas()));
}

#[test]
fn quotas_keep_to_their_bounds() {
    let none = |what| Err(Rejected::InvalidQuotas(what));
    let empty =
        QuotaEntity::UserAndClient { user: QuotaName::Default, client_id: QuotaName::Named(String::new()) };
    let not_above_zero = "a value is not a number above zero";
    for (command, expected) in [
        (set(&[(client("a"), &[("x", Some(0.0))])]), none(not_above_zero)),
        (set(&[(client("a"), &[("x", Some(-1.0))])]), none(not_above_zero)),
        (set(&[(client("a"), &[("x", Some(f64::NAN))])]), none(not_above_zero)),
        (set(&[(client("a"), &[("x", Some(f64::INFINITY))])]), none(not_above_zero)),
        (set(&[(client("a"), &[("", Some(1.0))])]), none("a key is empty or too long")),
        (set(&[(empty, &[("x", Some(1.0))])]), none("a name is empty or too long")),
        (
            set(&[(client(&"a".repeat(QUOTA_NAME_BYTES_MAX + 1)), &[("x", Some(1.0))])]),
            none("a name is empty or too long"),
        ),
        (set(&[(client(&"a".repeat(QUOTA_NAME_BYTES_MAX)), &[("x", Some(1.0))])]), DONE),
    ] {
        check(vec![command], expected);
    }
    let keys: Vec<String> = (0..=QUOTA_KEYS_MAX).map(|n| format!("k{n}")).collect();
    let keys: Vec<(&str, Option<f64>)> = keys.iter().map(|key| (key.as_str(), Some(1.0))).collect();
    check(vec![set(&[(client("a"), &keys)])], none("there are too many for one entity"));
    let many = |count: usize| {
        let one = |n: usize| (client(&n.to_string()), [("x".to_owned(), Some(1.0))].into());
        Command::SetClientQuotas(SetClientQuotas { changes: (0..count).map(one).collect() })
    };
    check(vec![many(CLIENT_QUOTAS_MAX)], DONE);
    check(vec![many(CLIENT_QUOTAS_MAX + 1)], none("there are too many"));
}
