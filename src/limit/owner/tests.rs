//! The rule as a table and as properties, and a bench of greedy owners against a modest one.

use std::time::Duration;

use futures_util::future::join_all;
use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use super::*;

fn host(number: u8) -> Arc<Owner> {
    Owner::new(OwnerKey::at(Some([10, 0, 0, number].into())))
}

#[test]
fn owner_may_hold_its_floor_or_a_multiple_of_what_is_free() {
    use Exceeded::{Limit, Share};
    // limit, in use and held with what is taken
    for (limit, in_use, held, expected) in [
        (1, 1, 1, Ok(())),
        (1, 2, 1, Err(Limit)),
        (2, 2, 2, Ok(())),
        (3, 2, 2, Ok(())),
        (3, 3, 3, Err(Share(2))),
        (3, 3, 1, Ok(())),
        (8, 7, 7, Ok(())),
        (8, 8, 8, Err(Share(7))),
        (1024, 930, 930, Ok(())),
        (1024, 931, 931, Err(Share(930))),
        (1024, 1024, 2, Ok(())),
        (1024, 1024, 3, Err(Share(2))),
        (1024, 1023, 10, Ok(())),
        (1024, 1025, 1, Err(Limit)),
        (1024, 976, 488, Err(Share(487))),
        (1024, 975, 488, Ok(())),
        (usize::MAX, usize::MAX / 2, usize::MAX / 2, Ok(())),
    ] {
        assert_eq!(
            check(limit, in_use, held),
            expected,
            "{limit} {in_use} {held}"
        );
    }
}

#[test]
fn owner_is_a_caller_an_ipv4_address_an_ipv6_64_or_unix() {
    let at = |address: &str| OwnerKey::at(Some(address.parse().unwrap()));
    for (one, other, same) in [
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("192.0.2.1", "::ffff:192.0.2.1", true),
        ("2001:db8::1", "2001:db8::ffff:0:0:1", true),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
    ] {
        assert_eq!(at(one) == at(other), same, "{one} {other}");
    }
    assert_eq!(OwnerKey::at(None), OwnerKey::Unix);
    assert_ne!(OwnerKey::new_caller(), OwnerKey::new_caller());
}

#[test]
fn host_without_connections_is_forgotten() {
    let owners = Owners::default();
    let first = owners.at(Some([10, 0, 0, 1].into()));
    assert!(Arc::ptr_eq(&first, &owners.at(Some([10, 0, 0, 1].into()))));
    for number in 0..10_000_u32 {
        owners.at(Some(Ipv6Addr::from_bits(u128::from(number) << 64).into()));
    }
    assert!(owners.0.lock().unwrap().owners.len() <= 66 + 64);
    assert!(Arc::ptr_eq(&first, &owners.at(Some([10, 0, 0, 1].into()))));
}

#[test]
fn permit_grows_within_the_share_and_releases_all() {
    let (bytes, one, other) = (Resource::new(ResourceKind::BodyBytes), host(1), host(2));
    let mut permit = bytes.acquire(&one, 1, 110).unwrap();
    assert_eq!(permit.grow(99, 110), Ok(()));
    assert_eq!(permit.grow(1, 110), Err(Exceeded::Share(100)));
    let second = bytes.acquire(&other, 6, 110).unwrap();
    assert_eq!(bytes.in_use(), 106);
    assert_eq!(bytes.acquire(&other, 5, 110).unwrap_err(), Exceeded::Limit);
    drop(permit);
    assert_eq!(bytes.in_use(), 6);
    drop(second);
    assert_eq!(
        (
            bytes.in_use(),
            one.held(ResourceKind::BodyBytes).load(Ordering::Relaxed)
        ),
        (0, 0)
    );
}

#[test]
fn threads_never_exceed_the_limit_together() {
    let resource = Resource::new(ResourceKind::InFlight);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (resource, owner) = (&resource, host(number));
            scope.spawn(move || {
                for _ in 0..10_000 {
                    let permits: Vec<_> = (0..5)
                        .filter_map(|_| resource.acquire(&owner, 1, 10).ok())
                        .collect();
                    // Attempts that fail count for a moment, one per thread.
                    assert!(resource.in_use() <= 10 + 4);
                    drop(permits);
                }
            });
        }
    });
    assert_eq!(resource.in_use(), 0);
}

proptest! {
    /// Owners take and release at random.
    #[test]
    fn shares_keep_to_the_limit_and_leave_room_for_modest_owners(
        limit in 1_usize..300,
        steps in prop::collection::vec((0_u8..6, 0_u8..4), 1..600),
    ) {
        let resource = Resource::new(ResourceKind::InFlight);
        let owners: Vec<_> = (0..6).map(host).collect();
        let mut permits: Vec<Vec<OwnedPermit>> = (0..6).map(|_| Vec::new()).collect();
        for (owner, action) in steps {
            let index = usize::from(owner);
            if action == 0 {
                permits[index].pop();
                continue;
            }
            let (in_use, held) = (resource.in_use(), permits[index].len());
            let acquired = resource.acquire(&owners[index], 1, limit);
            if in_use < limit && held < FLOOR {
                prop_assert!(acquired.is_ok(), "a modest owner gets what is free");
            }
            permits[index].extend(acquired);
            let total: usize = permits.iter().map(Vec::len).sum();
            prop_assert_eq!(resource.in_use(), total);
            prop_assert!(total <= limit);
        }
    }

    #[test]
    fn lone_owner_uses_nearly_all(limit in 1_usize..5000) {
        let (resource, owner) = (Resource::new(ResourceKind::InFlight), host(1));
        let permits: Vec<_> = (0..limit).filter_map(|_| resource.acquire(&owner, 1, limit).ok()).collect();
        prop_assert!(permits.len() >= (limit * FACTOR / (FACTOR + 1)).max(limit.min(FLOOR)));
        prop_assert!(limit <= FLOOR || permits.len() < limit, "a part stays free");
    }
}

/// Greedy owners hold what they get and ask again every millisecond; a modest one holds one unit at
/// a time for 20 ms. Returns the failures of the modest one in 1000 attempts.
async fn modest_failures(kind: ResourceKind, limit: usize, greedy: u8, unit: usize) -> usize {
    let resource = Resource::new(kind);
    let end = Instant::now() + Duration::from_secs(26);
    let greedy = (1..=greedy).map(|number| {
        let (resource, owner) = (Arc::clone(&resource), host(number));
        async move {
            let mut held = Vec::new();
            while Instant::now() < end {
                while let Ok(permit) = resource.acquire(&owner, unit, limit) {
                    held.push(permit);
                }
                sleep(Duration::from_millis(1)).await;
                // A few end; others take their part.
                held.truncate(held.len() * 999 / 1000);
            }
        }
    });
    let (modest, owner) = (Arc::clone(&resource), host(0));
    let modest = async move {
        // The first greedy owner takes nearly all, the others what it releases.
        sleep(Duration::from_secs(1)).await;
        let mut failures = 0;
        for _ in 0..1000 {
            sleep(Duration::from_millis(4)).await;
            match modest.acquire(&owner, unit, limit) {
                Ok(_permit) => sleep(Duration::from_millis(20)).await,
                Err(_) => failures += 1,
            }
        }
        failures
    };
    tokio::join!(modest, join_all(greedy)).0
}

#[tokio::test(start_paused = true)]
async fn modest_owner_never_fails_beside_greedy_ones() {
    use ResourceKind::{BodyBytes, Connections, InFlight, Logins, Queued};
    for (kind, limit, unit) in [
        (InFlight, 1024, 1),
        (InFlight, 8, 1),
        (Queued, 1000, 1),
        (Connections, 10_000, 1),
        (Logins, 1024, 1),
        (BodyBytes, 64 << 20, 64 << 10),
    ] {
        for greedy in [1, 2, 5] {
            // Five owners divide a limit of eight.
            if limit < 100 && greedy > 2 {
                continue;
            }
            let failures = modest_failures(kind, limit, greedy, unit).await;
            println!(
                "{kind:?} {limit}: {greedy} greedy owners, {failures} of 1000 modest requests fail"
            );
            assert_eq!(failures, 0, "{kind:?} {limit} {greedy}");
        }
    }
}
