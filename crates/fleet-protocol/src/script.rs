//! The scripts, and the arguments of each command.
//!
//! Scripts declare their keys and use only commands and Lua of Redis 6.2. They return their time,
//! a word and its values.

use std::fmt::Display;

use citrix_wire::hex;

use crate::command::{
    Beat, Bye, Close, Command, Enter, Fact, Finish, Leave, Login, LoginResult, MAX_GATE_WAIT,
    MAX_LOGIN_WAIT, Mark, Members, Publish, Reserve, Set,
};
use crate::name::{Keys, Name};
use crate::time::{MAX_CLOCK_LAG, Timing, micros, millis};

/// Reads the server's clock; tests replace it.
const CLOCK: &str = include_str!("lua/clock.lua");
const QUEUE: &str = include_str!("lua/queue.lua");
const PUMP: &str = include_str!("lua/pump.lua");
const DATED: &str = include_str!("lua/dated.lua");

/// A script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Script {
    /// Requests a permit.
    Enter,
    /// Returns one.
    Leave,
    /// A heartbeat.
    Beat,
    /// The last message of a replica.
    Bye,
    /// Takes a slot of a rate limit.
    Reserve,
    /// Closes a gate.
    Close,
    /// Lists closed gates.
    Gates,
    /// Requests the right to log in.
    Login,
    /// Ends a login.
    Finish,
    /// Publishes a token.
    Publish,
    /// Lists the replicas.
    Members,
}

/// The commands that scripts call and facts need, in lower case. The ACL of a user must permit
/// them.
pub const COMMANDS: [&str; 16] = [
    "del",
    "get",
    "hmget",
    "hset",
    "pexpire",
    "publish",
    "set",
    "time",
    "zadd",
    "zcard",
    "zcount",
    "zrange",
    "zrangebyscore",
    "zrem",
    "zremrangebyscore",
    "zscore",
];

impl Script {
    /// All scripts.
    pub const ALL: [Self; 11] = [
        Self::Enter,
        Self::Leave,
        Self::Beat,
        Self::Bye,
        Self::Reserve,
        Self::Close,
        Self::Gates,
        Self::Login,
        Self::Finish,
        Self::Publish,
        Self::Members,
    ];

    /// Returns the name, for metrics and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enter => "enter",
            Self::Leave => "leave",
            Self::Beat => "beat",
            Self::Bye => "bye",
            Self::Reserve => "reserve",
            Self::Close => "close",
            Self::Gates => "gates",
            Self::Login => "login",
            Self::Finish => "finish",
            Self::Publish => "publish",
            Self::Members => "members",
        }
    }

    /// Returns the source.
    pub fn source(self) -> String {
        self.source_with_clock(CLOCK)
    }

    /// Returns the source with other code that sets `micros` and `now`.
    pub fn source_with_clock(self, clock: &str) -> String {
        let body = match self {
            Self::Enter => include_str!("lua/enter.lua"),
            Self::Leave => include_str!("lua/leave.lua"),
            Self::Beat => include_str!("lua/beat.lua"),
            Self::Bye => include_str!("lua/bye.lua"),
            Self::Reserve => include_str!("lua/reserve.lua"),
            Self::Close => include_str!("lua/close.lua"),
            Self::Gates => include_str!("lua/gates.lua"),
            Self::Login => include_str!("lua/login.lua"),
            Self::Finish => include_str!("lua/finish.lua"),
            Self::Publish => include_str!("lua/publish.lua"),
            Self::Members => include_str!("lua/members.lua"),
        };
        match self {
            Self::Enter | Self::Leave | Self::Beat | Self::Bye => {
                [clock, QUEUE, PUMP, body].concat()
            }
            Self::Login | Self::Finish => {
                let lag = format!("local lag = {}\n", millis(MAX_CLOCK_LAG));
                [clock, &lag, DATED, body].concat()
            }
            Self::Reserve | Self::Close | Self::Gates | Self::Publish | Self::Members => {
                [clock, body].concat()
            }
        }
    }
}

/// A command as the store receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A script with its keys and arguments.
    Script {
        /// The script.
        script: Script,
        /// Its keys.
        keys: Vec<String>,
        /// Its arguments.
        args: Vec<Vec<u8>>,
    },
    /// A plain command.
    Plain {
        /// The words of the command.
        words: Vec<Vec<u8>>,
        /// Whether it returns a value.
        reads: bool,
    },
}

impl Command {
    /// Returns the command as the store receives it.
    pub fn call(&self, keys: &Keys, timing: &Timing) -> Call {
        let script = |script| Arguments::new(keys, script);
        let queue_script = |script| Arguments::of_queues(keys, script, timing);
        match self {
            Self::Enter(enter) => enter.write(queue_script(Script::Enter)),
            Self::Leave(leave) => leave.write(queue_script(Script::Leave)),
            Self::Beat(beat) => beat.write(queue_script(Script::Beat)),
            Self::Bye(bye) => bye.write(queue_script(Script::Bye)),
            Self::Reserve(reserve) => reserve.write(script(Script::Reserve)),
            Self::Close(close) => close.write(script(Script::Close)),
            Self::Gates => script(Script::Gates)
                .key("g")
                .arg(millis(MAX_GATE_WAIT))
                .call(),
            Self::Login(login) => login.write(script(Script::Login)),
            Self::Finish(finish) => finish.write(script(Script::Finish)),
            Self::Publish(publish) => publish.write(script(Script::Publish)),
            Self::Members(members) => members.write(script(Script::Members), timing),
            Self::Get(fact) => plain(true, ["GET".into(), fact.key(keys).into()]),
            Self::Set(set) => set.words(keys),
            Self::Mark(mark) => mark.words(keys),
        }
    }
}

/// The keys and arguments of a script.
struct Arguments<'k> {
    names: &'k Keys,
    script: Script,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

impl<'k> Arguments<'k> {
    fn new(names: &'k Keys, script: Script) -> Self {
        Self {
            names,
            script,
            keys: Vec::new(),
            args: Vec::new(),
        }
    }

    fn of_queues(names: &'k Keys, script: Script, timing: &Timing) -> Self {
        let call = Self::new(names, script).key("beat").key("reps");
        call.arg(millis(timing.lease))
    }

    fn key(mut self, name: impl Display) -> Self {
        self.keys.push(self.names.key(name));
        self
    }

    /// Adds the keys of a queue.
    fn queue(mut self, queue: Name) -> Self {
        for kind in ["h", "w", "v"] {
            self = self.key(format_args!("{kind}:{queue}"));
        }
        self
    }

    fn arg(mut self, arg: impl Display) -> Self {
        self.args.push(arg.to_string().into_bytes());
        self
    }

    fn bytes(mut self, arg: &[u8]) -> Self {
        self.args.push(arg.to_vec());
        self
    }

    fn call(self) -> Call {
        Call::Script {
            script: self.script,
            keys: self.keys,
            args: self.args,
        }
    }
}

impl Enter {
    fn write(&self, call: Arguments<'_>) -> Call {
        let call = call.queue(self.queue).arg(self.deadline.0);
        let call = call.arg(self.ticket).arg(self.caller);
        call.arg(self.limit.at_once).arg(self.limit.room).call()
    }
}

impl Leave {
    fn write(&self, call: Arguments<'_>) -> Call {
        let call = call.queue(self.queue).arg(self.ticket).arg(self.caller);
        call.arg(self.at_once).call()
    }
}

impl Beat {
    fn write(&self, call: Arguments<'_>) -> Call {
        let mut call = call
            .key("keys")
            .key("g")
            .arg(self.deadline.0)
            .arg(self.replica);
        call = call.arg(format_args!("{:08x}", self.key.0));
        call = call.arg(self.run.map_or_else(String::new, |run| hex::encode(&run.0)));
        call = call.arg(u8::from(self.joins));
        for tickets in &self.queues {
            call = call.queue(tickets.queue).arg(tickets.at_once);
            call = call.arg(tickets.held.len()).arg(tickets.waiting.len());
            call = tickets.all().fold(call, Arguments::arg);
        }
        call.call()
    }
}

impl Bye {
    fn write(&self, call: Arguments<'_>) -> Call {
        let mut call = call.arg(self.replica);
        for tickets in &self.queues {
            call = call.queue(tickets.queue).arg(tickets.at_once);
            call = call.arg(tickets.all().count());
            call = tickets.all().fold(call, Arguments::arg);
        }
        call.call()
    }
}

impl Reserve {
    fn write(&self, call: Arguments<'_>) -> Call {
        let call = call
            .key(format_args!("p:{}", self.limit))
            .arg(self.deadline.0);
        let call = call
            .arg(micros(self.rate.interval))
            .arg(micros(self.rate.burst));
        call.arg(micros(self.max_wait))
            .arg(micros(self.rate.timeout))
            .call()
    }
}

impl Close {
    fn write(&self, call: Arguments<'_>) -> Call {
        let call = call.key("g").arg(self.place).arg(self.until.0);
        let call = call.arg(millis(self.wait)).arg(self.replica);
        call.arg(millis(MAX_GATE_WAIT)).call()
    }
}

impl Login {
    fn write(&self, mut call: Arguments<'_>) -> Call {
        for kind in ["t", "l", "f", "r"] {
            call = call.key(format_args!("{kind}:{}", self.identity));
        }
        let call = call.key(format_args!("s:{}:{}", self.identity, self.secret));
        let call = call
            .arg(self.deadline.0)
            .arg(self.lock)
            .arg(millis(self.lifetime).max(1));
        let interval = self.forced.map_or(0, |interval| millis(interval).max(1));
        call.arg(interval).call()
    }
}

impl Finish {
    fn write(&self, call: Arguments<'_>) -> Call {
        let identity = self.identity;
        let call = call.key(format_args!("l:{identity}")).arg(self.lock);
        let call = match self.result {
            LoginResult::Unneeded => call.arg(""),
            _ => call.arg(identity),
        };
        match &self.result {
            LoginResult::Token {
                record,
                lifetime,
                secret,
            } => {
                let call = call.key(format_args!("t:{identity}"));
                let call = call.key(format_args!("s:{identity}:{secret}"));
                call.arg(millis(*lifetime).max(1)).bytes(record).call()
            }
            LoginResult::Rejected {
                secret,
                record,
                lifetime,
            } => {
                let call = call.key(format_args!("s:{identity}:{secret}"));
                let call = call.arg(millis(*lifetime).max(1)).bytes(record);
                call.arg("dated").call()
            }
            LoginResult::Throttled { wait } => {
                let wait = (*wait).min(MAX_LOGIN_WAIT);
                call.key(format_args!("r:{identity}"))
                    .arg(millis(wait).max(1))
                    .call()
            }
            // It counts as no forced login.
            LoginResult::Failed | LoginResult::Unneeded => {
                call.key(format_args!("f:{identity}")).call()
            }
        }
    }
}

impl Publish {
    fn write(&self, call: Arguments<'_>) -> Call {
        let call = call.key(format_args!("t:{}", self.identity));
        let call = call.arg(self.identity).arg(millis(self.lifetime).max(1));
        let call = call.bytes(&self.record);
        match &self.known {
            Some(known) => call.bytes(known).call(),
            None => call.call(),
        }
    }
}

impl Members {
    fn write(&self, call: Arguments<'_>, timing: &Timing) -> Call {
        let mut call = call.key("reps").arg(millis(timing.grace_period()));
        for queue in &self.queues {
            call = call.key(format_args!("h:{queue}"));
            call = call.key(format_args!("w:{queue}"));
        }
        call.call()
    }
}

fn plain<const N: usize>(reads: bool, words: [Vec<u8>; N]) -> Call {
    Call::Plain {
        words: words.into(),
        reads,
    }
}

impl Fact {
    fn key(self, keys: &Keys) -> String {
        match self {
            Self::Token(identity) => keys.key(format_args!("t:{identity}")),
            Self::Site(customer) => keys.key(format_args!("x:{customer}")),
            Self::Activation(customer) => keys.key(format_args!("a:{customer}")),
            Self::Regions(customer) => keys.key(format_args!("reg:{customer}")),
            Self::Member(replica) => keys.key(format_args!("rep:{replica}")),
        }
    }
}

impl Set {
    fn words(&self, keys: &Keys) -> Call {
        let lifetime = millis(self.lifetime).max(1).to_string();
        let (key, value) = (self.fact.key(keys).into(), self.value.clone());
        plain(
            false,
            ["SET".into(), key, value, "PX".into(), lifetime.into()],
        )
    }
}

impl Mark {
    fn words(&self, keys: &Keys) -> Call {
        let lifetime = millis(self.lifetime).max(1).to_string();
        let key = self.fact.key(keys).into();
        let words = [
            "SET".into(),
            key,
            "1".into(),
            "NX".into(),
            "PX".into(),
            lifetime.into(),
        ];
        plain(false, words)
    }
}
