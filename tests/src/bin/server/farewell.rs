//! A server that tells how its connections end, in a process of its own: `farewell CONCURRENCY PROTOCOL
//! [OPTION=VALUE]… ADDRESS`. It says where it listens, and prints what is called as the tests have it, until it is stopped
//! by a signal or the line `stop`. At the end it prints how the drain has gone and what it has counted.

use std::{io::Write, thread, time::Duration};

use sockserver::{Closing, Concurrency, HandlerResult, Options, Server};
use sockserver_tests::by_concurrency;
use sockserver_tests::farewell::{Farewell, Guest, mail, say_why};

use crate::{Ended, options};

pub(crate) fn serve(arguments: &[String]) -> Ended {
    let [concurrency, protocol, options @ .., address] = arguments else {
        return Err("farewell CONCURRENCY PROTOCOL [OPTION=VALUE]… ADDRESS".into());
    };
    let options = options::parse(concurrency, options)?;
    by_concurrency!(concurrency, C => serve_farewell::<C>(protocol, options, address))
}

fn serve_farewell<C: Concurrency + Default>(protocol: &str, options: Options, address: &str) -> Ended {
    let handle = match protocol {
        "log" => log,
        "mail" => |guest: &mut Guest<C>| mail(guest, false),
        "busy_mail" => |guest: &mut Guest<C>| mail(guest, true),
        "upload" => upload,
        "orders" => orders,
        _ => return Err(format!("there is no protocol {protocol}").into()),
    };
    let closing = |guest: &mut Guest<C>, why: Closing| match why {
        // So that it is seen where it is bounded.
        Closing::Kicked => guest.wfile.write_all(&vec![b'x'; 100_000_000]).map_err(Into::into),
        _ => say_why(guest, why),
    };
    let server = Farewell::new(handle).closing(closing).telling(|call| println!("{call:?}"));
    let server = server.bind_with(address, options)?;
    server.shutdown_on_signals()?;
    println!("listening on {}", server.server_address());
    let handle = server.handle();
    // In a child it is not called.
    let _on_stopping = handle.on_stopping(|| println!("on_stopping"));
    server.serve_forever()?;
    println!("{:?}", handle.wait()?);
    println!("{:?}", handle.stats());
    Ok(())
}

/// The receiver of a log, which answers nothing, and prints the log.
fn log<C: Concurrency + Default>(guest: &mut Guest<C>) -> HandlerResult {
    while let Some(line) = guest.rfile.next_line()? {
        println!("{line}");
    }
    Ok(())
}

/// Chunks of four bytes, each of which is acknowledged, until the end of file.
fn upload<C: Concurrency + Default>(guest: &mut Guest<C>) -> HandlerResult {
    let mut chunk = [0; 4];
    while std::io::Read::read(&mut guest.rfile, &mut chunk)? > 0 {
        writeln!(guest.wfile, "ack")?;
    }
    Ok(())
}

/// Does what the lines say.
fn orders<C: Concurrency + Default>(guest: &mut Guest<C>) -> HandlerResult {
    while let Some(line) = guest.rfile.next_line()? {
        match line.as_str() {
            "stop" => guest.server.shutdown(),
            "kick" => assert!(guest.server.close(guest.id)),
            "is_ready" => writeln!(guest.wfile, "{}", guest.server.is_ready())?,
            "is_stopping" => writeln!(guest.wfile, "{}", guest.server.is_stopping())?,
            "ignore the client" => {
                writeln!(guest.wfile, "ignored")?;
                guest.wfile.flush()?;
                while !guest.server.is_stopping() {
                    thread::sleep(Duration::from_millis(1));
                }
                return Ok(writeln!(guest.wfile, "it is stopping")?);
            }
            _ => writeln!(guest.wfile, "{}", line.to_uppercase())?,
        }
    }
    Ok(())
}
