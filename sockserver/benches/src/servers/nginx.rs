//! nginx, whose module `stream` answers each connection with a line, over TLS.

use std::{
    env, fs, io,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{self, Command, Stdio},
};

use super::{CERTIFICATE, KEY};
use crate::workload::LINE;

/// Becomes nginx. It does not say which port it takes, so it is told.
pub fn serve() -> io::Result<()> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let directory = env::temp_dir().join(format!("sockserver-benches-nginx-{}", process::id()));
    fs::create_dir_all(&directory)?;
    let (pid, configuration) = (directory.join("pid"), directory.join("nginx.conf"));
    // It may be compiled in.
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let load = if Path::new(module).exists() { format!("load_module {module};") } else { String::new() };
    let line = "a".repeat(LINE);
    fs::write(
        &configuration,
        format!(
            "{load} daemon off; master_process off; pid {}; error_log /dev/null emerg; events {{}}
            stream {{ server {{
                listen 127.0.0.1:{port} ssl backlog=4096;
                ssl_certificate {CERTIFICATE};
                ssl_certificate_key {KEY};
                ssl_protocols TLSv1.2 TLSv1.3;
                return {line};
            }} }}",
            pid.display()
        ),
    )?;
    super::announce(port);
    Err(Command::new("nginx").arg("-p").arg(&directory).arg("-c").arg(&configuration).stdout(Stdio::null()).exec())
}
