//! Groups of identical requests that wait for a permit: the first that gets one leads, the others
//! leave the queue and follow (interface §4.7). No request joins a group that has a leader.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::system::digest::Sha256;

/// The groups without a leader. Every member waits in a bounded queue, which bounds them as well.
#[derive(Debug)]
pub struct Groups<T>(Mutex<Waiting<T>>);

#[derive(Debug)]
struct Waiting<T> {
    last_ticket: u64,
    /// The members of each group in order of arrival, never an empty list.
    groups: HashMap<[u8; 32], Vec<Member<T>>>,
}

#[derive(Debug)]
struct Member<T> {
    ticket: u64,
    led: oneshot::Sender<Following<T>>,
}

/// A request's place in its group; left on drop.
#[derive(Debug)]
pub struct Membership<T> {
    groups: Arc<Groups<T>>,
    key: [u8; 32],
    ticket: u64,
    led: oneshot::Receiver<Following<T>>,
}

/// The requests that follow a leader. Dropped, each of them sends its own request.
#[derive(Debug)]
pub struct Followers<T>(Vec<oneshot::Sender<T>>);

/// A request that follows a leader.
#[derive(Debug)]
pub struct Following<T>(oneshot::Receiver<T>);

impl<T> Default for Groups<T> {
    fn default() -> Self {
        Self(Mutex::new(Waiting {
            last_ticket: 0,
            groups: HashMap::new(),
        }))
    }
}

impl<T> Groups<T> {
    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the group of the requests with the same `key`.
    pub fn join(self: &Arc<Self>, key: &Sha256) -> Membership<T> {
        let key = *key.as_bytes();
        let (sender, led) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.last_ticket += 1;
        let ticket = waiting.last_ticket;
        let member = Member {
            ticket,
            led: sender,
        };
        waiting.groups.entry(key).or_default().push(member);
        drop(waiting);
        Membership {
            groups: Arc::clone(self),
            key,
            ticket,
            led,
        }
    }
}

impl<T> Membership<T> {
    /// Waits until another member leads.
    pub async fn led(&mut self) -> Following<T> {
        match (&mut self.led).await {
            Ok(following) => following,
            // A member is dropped by a leader, which sends first, or by its own request.
            Err(_) => std::future::pending().await,
        }
    }

    /// Leads the group, whose other members follow.
    ///
    /// # Errors
    /// If another member leads already.
    pub fn lead(mut self) -> Result<Followers<T>, Following<T>> {
        let groups = Arc::clone(&self.groups);
        // Until all members know: each checks under the lock whether it is led.
        let mut waiting = groups.lock();
        if let Ok(following) = self.led.try_recv() {
            return Err(following);
        }
        let members = waiting.groups.remove(&self.key).unwrap_or_default();
        let others = members
            .into_iter()
            .filter(|member| member.ticket != self.ticket);
        let followers = others.filter_map(|member| {
            let (sender, receiver) = oneshot::channel();
            let sent = member.led.send(Following(receiver));
            sent.is_ok().then_some(sender)
        });
        let followers = Followers(followers.collect());
        drop(waiting);
        Ok(followers)
    }
}

impl<T> Drop for Membership<T> {
    fn drop(&mut self) {
        let mut waiting = self.groups.lock();
        let Entry::Occupied(mut group) = waiting.groups.entry(self.key) else {
            return;
        };
        let members = group.get_mut();
        let Ok(index) = members.binary_search_by_key(&self.ticket, |member| member.ticket) else {
            return;
        };
        let left = members.remove(index);
        if members.is_empty() {
            group.remove();
        }
        drop(waiting);
        drop(left);
    }
}

impl<T> Followers<T> {
    /// Returns those that still wait; each takes one response.
    pub fn waiting(self) -> Vec<oneshot::Sender<T>> {
        let mut senders = self.0;
        senders.retain(|sender| !sender.is_closed());
        senders
    }
}

impl<T> Following<T> {
    /// Waits for the shared response; `None` if the leader has none to share.
    pub async fn response(self) -> Option<T> {
        self.0.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn key(name: &str) -> Sha256 {
        Sha256::of(name.as_bytes())
    }

    #[tokio::test]
    async fn members_of_one_key_follow_the_first_with_a_permit() {
        let groups = Arc::new(Groups::default());
        let mut first = groups.join(&key("a"));
        let second = groups.join(&key("a"));
        let mut other = groups.join(&key("b"));
        let followers = second.lead().unwrap().waiting();
        assert_eq!(followers.len(), 1);
        let following = first.led().await;
        assert!(other.led().now_or_never().is_none(), "another key");
        followers
            .into_iter()
            .for_each(|it| it.send("shared").unwrap());
        assert_eq!(following.response().await, Some("shared"));
        drop((first, other));
        assert!(groups.lock().groups.is_empty());
    }

    #[tokio::test]
    async fn request_that_arrives_after_the_leader_forms_a_new_group() {
        let groups = Arc::new(Groups::<()>::default());
        let leader = groups.join(&key("a"));
        let led = groups.join(&key("a"));
        let followers = leader.lead().unwrap();
        let late = groups.join(&key("a"));
        assert!(led.lead().is_err(), "it got a permit at the same time");
        assert!(late.lead().unwrap().waiting().is_empty());
        drop(followers);
    }

    #[tokio::test]
    async fn followers_of_a_leader_that_fails_learn_it() {
        let groups = Arc::new(Groups::<()>::default());
        let leader = groups.join(&key("a"));
        let mut led = groups.join(&key("a"));
        drop(leader.lead().unwrap());
        assert_eq!(led.led().await.response().await, None);
    }

    #[tokio::test]
    async fn member_that_leaves_is_not_a_follower() {
        let groups = Arc::new(Groups::<()>::default());
        let leader = groups.join(&key("a"));
        drop(groups.join(&key("a")));
        let mut leaves_late = groups.join(&key("a"));
        let followers = leader.lead().unwrap();
        drop(leaves_late.led().await);
        assert!(followers.waiting().is_empty());
        drop(leaves_late);
        assert!(groups.lock().groups.is_empty());
    }
}
