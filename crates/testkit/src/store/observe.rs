//! The commands that a store received, and its data.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use super::{StoreServer, first_line, read_line};

/// The marker that ends a [`Monitor`].
const END: &str = "end-of-monitor";

/// Records all commands that a store processes.
#[derive(Debug)]
pub struct Monitor {
    recorder: JoinHandle<String>,
}

impl StoreServer {
    /// Returns the number of calls of each command since the start or `CONFIG RESETSTAT`, also of
    /// those that scripts made.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        calls_at(UnixStream::connect(self.socket()).unwrap())
    }

    /// Returns all keys and values as bytes of an RDB file.
    pub fn dump(&self) -> Vec<u8> {
        assert_eq!(self.run("SAVE"), "+OK");
        std::fs::read(self.folder.path().join("dump.rdb")).unwrap()
    }

    /// Starts to record all commands.
    pub fn monitor(&self) -> Monitor {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        assert_eq!(first_line(&mut stream, "MONITOR"), "+OK");
        let recorder = std::thread::spawn(move || {
            let (mut stream, mut recorded) = (BufReader::new(stream), String::new());
            loop {
                let line = read_line(&mut stream);
                if line.is_empty() || line.contains(END) {
                    return recorded;
                }
                recorded.push_str(&line);
                recorded.push('\n');
            }
        });
        Monitor { recorder }
    }
}

/// Returns the number of calls of each command at a server.
pub(super) fn calls_at(stream: impl Read + Write) -> BTreeMap<String, u64> {
    let mut stream = BufReader::new(stream);
    let command = b"INFO commandstats\r\n";
    stream.get_mut().write_all(command).unwrap();
    let line = read_line(&mut stream);
    let length = line.strip_prefix('$').map(str::parse);
    let mut text = vec![0; length.expect("a text").unwrap()];
    stream.read_exact(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let calls = text.lines().filter_map(|line| {
        let (name, values) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let (count, _) = values.split_once(',')?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    calls.collect()
}

impl Monitor {
    /// Returns the commands until now, one a line.
    pub fn end(self, server: &StoreServer) -> String {
        server.run(&format!("ECHO {END}"));
        self.recorder.join().unwrap()
    }
}
