//! Clients that mean harm, and what a server must keep up beside them: [`attack`] judges any server that listens on TCP.
//!
//! While each attack is under way, an honest client connects again and again, and must be served in time. When the attackers
//! have left, the threads, descriptors and memory of the server's process must come back.
//!
//! ```no_run
//! # use sockserver::{HandlerResult, Reader, RequestHandler, Server, Writer, request_handler};
//! use sockserver::testing::hostile::{Attack, Plan};
//! # use std::io::Write;
//!
//! #[request_handler]
//! #[server(transport = "tcp", concurrency = "pool", workers = 8, timeouts(idle = "1s", lifetime = "10s"))]
//! struct Upper {
//!     rfile: Reader,
//!     wfile: Writer,
//! }
//!
//! # impl RequestHandler for Upper {
//! #     fn handle(&mut self) -> HandlerResult {
//! #         while let Some(line) = self.rfile.next_line()? {
//! #             writeln!(self.wfile, "{}", line.to_uppercase())?;
//! #         }
//! #         Ok(())
//! #     }
//! # }
//! # fn main() -> std::io::Result<()> {
//! let server = UpperServer.bind("127.0.0.1:0")?.spawn()?;
//! let report = Plan::new(server.server_address()).honest("hello\n", "HELLO\n").attack(Attack::ALL);
//! assert!(report.is_good(), "{report}");
//! # Ok(()) }
//! ```
//!
//! The example `hostile` of the repository does this from the command line: `cargo run --example hostile -- 127.0.0.1:9999`.
//! Attack only servers that are yours.

use crate::address::Address;

mod attack;
mod attackers;
mod honest;
mod plan;
mod process;
mod report;

pub use attack::Attack;
pub use plan::Plan;
pub use process::Resources;
pub use report::{Finding, Report};

/// Attacks a server, and says how it went. The honest client only connects: [`Plan`] gives it something to say, and sees to
/// the server's process.
///
/// # Panics
///
/// If it is no internet address.
#[track_caller]
pub fn attack(address: &Address, attacks: &[Attack]) -> Report {
    Plan::new(address).attack(attacks)
}
