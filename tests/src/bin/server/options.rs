//! Options as arguments: `NAME=VALUE`, with times in milliseconds.

use std::{error::Error, time::Duration};

use sockserver::{OnLimit, Options};
use sockserver_tests::concurrencies::set_workers;

/// The options of a server of this concurrency.
pub(crate) fn parse(concurrency: &str, arguments: &[String]) -> Result<Options, Box<dyn Error>> {
    let mut options = Options::new();
    for argument in arguments {
        set(&mut options, argument)?;
    }
    if concurrency != "pool" {
        // It means nothing there, or another thing.
        options.workers = None;
    }
    set_workers(&mut options);
    Ok(options)
}

pub(crate) fn set(options: &mut Options, argument: &str) -> Result<(), Box<dyn Error>> {
    let (name, value) = argument.split_once('=').ok_or("an option is NAME=VALUE")?;
    let time = || value.parse().map(Duration::from_millis);
    match name {
        "allow_threads" => options.allow_threads = value.parse()?,
        "connections" => options.limits.connections = Some(value.parse()?),
        "per_client" => options.limits.per_client = Some(value.parse()?),
        "on_limit" if value == "reject" => options.limits.on_limit = OnLimit::Reject,
        "workers" => options.workers = Some(value.parse()?),
        "idle" => options.timeouts.idle = Some(time()?),
        "lifetime" => options.timeouts.lifetime = Some(time()?),
        "linger" => options.timeouts.linger = time()?,
        "poll" => options.timeouts.poll = Some(time()?),
        "shutdown" => options.timeouts.shutdown = time()?,
        _ => return Err(format!("there is no option {argument}").into()),
    }
    Ok(())
}
