//! Requests concerning logins and facts. Each has one response; without a store at once.

use super::Output;
use super::link::{Io, Purpose};
use super::request::{Request, RequestId};
use crate::command::{Command, Finish, LockName, Login, Mark, Members, Publish, Set};
use crate::name::Replica;

/// The requests of this replica.
#[derive(Debug)]
pub(super) struct Logins {
    replica: Replica,
}

impl Logins {
    pub(super) fn new(replica: Replica) -> Self {
        Self { replica }
    }

    pub(super) fn request(&mut self, io: &mut Io<'_>, id: RequestId, request: Request) {
        if !io.link.is_joined() {
            let now = io.link.store_time(io.now);
            io.out.push(Output::Response {
                id,
                body: None,
                now,
            });
            return;
        }
        let again = matches!(request, Request::Login { .. }).then(|| request.clone());
        let command = self.command(io, request);
        io.send(command, Purpose::Request(id, again));
    }

    fn lock(&self, number: u64) -> LockName {
        LockName {
            replica: self.replica,
            number,
        }
    }

    fn command(&self, io: &Io<'_>, request: Request) -> Command {
        match request {
            Request::Login {
                identity,
                secret,
                attempt,
                lifetime,
                forced,
            } => Command::Login(Login {
                identity,
                secret,
                lock: self.lock(attempt),
                lifetime,
                forced,
                deadline: io.deadline(),
            }),
            Request::Finish {
                identity,
                attempt,
                result,
            } => Command::Finish(Finish {
                identity,
                lock: self.lock(attempt),
                result,
            }),
            Request::Publish {
                identity,
                known,
                record,
                lifetime,
            } => Command::Publish(Publish {
                identity,
                known,
                record,
                lifetime,
            }),
            Request::Members(queues) => Command::Members(Members { queues }),
            Request::Get(fact) => Command::Get(fact),
            Request::Set {
                fact,
                value,
                lifetime,
            } => Command::Set(Set {
                fact,
                value,
                lifetime,
            }),
            Request::Mark { fact, lifetime } => Command::Mark(Mark { fact, lifetime }),
        }
    }
}
