//! Real proxies in front of a server: HAProxy, and nginx with its stream module.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

use sockserver::Address;

use crate::{
    client::{Client, eventually},
    place::{Directory, own_ip},
    process::{Process, installed, skip},
};

/// A proxy of this test's own, which listens at an address of its own.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    process: Process,
    directory: Directory,
}

impl Proxy {
    /// Starts HAProxy with one frontend, whose `bind` line has these further words, and one backend with this server. Within
    /// them `DIR` is a directory of the proxy's. `None`: it is not installed.
    #[track_caller]
    pub fn haproxy(bind: &str, server: &str, options: &str, prepare: impl Fn(&Path)) -> Option<Proxy> {
        Proxy::start("haproxy", prepare, |address, directory| {
            format!(
                "global
                    noreuseport
                    stats socket {directory}/stats mode 600 level admin
                defaults
                    mode tcp
                    timeout connect 10s
                    timeout client 60s
                    timeout server 60s
                    timeout check 10s
                frontend front
                    bind {address} {}
                    default_backend back
                backend back
                    {options}
                    server app {server}
                ",
                bind.replace("DIR", directory)
            )
        })
    }

    /// Starts nginx with a stream server that passes all to this one. `None`: it is not installed, or has no streams.
    #[track_caller]
    pub fn nginx(server: &Address) -> Option<Proxy> {
        Proxy::nginx_with(server, "")
    }

    /// Likewise, with these words about the server.
    #[track_caller]
    pub fn nginx_with(server: &Address, words: &str) -> Option<Proxy> {
        const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
        if !Path::new(MODULE).exists() {
            skip("nginx has no stream module");
            return None;
        }
        Proxy::start(
            "nginx",
            |_| (),
            |address, directory| {
                format!(
                    "load_module {MODULE}; daemon off; master_process off; pid {directory}/pid; error_log stderr;
                events {{ worker_connections 64; }}
                stream {{ server {{ listen {address}; proxy_pass {server}; proxy_protocol on; {words} }} }}"
                )
            },
        )
    }

    /// Starts HAProxy with this configuration, which is given where it listens and a directory of the proxy's. `None`: it is
    /// not installed.
    #[track_caller]
    pub fn haproxy_with(configuration: impl Fn(SocketAddr) -> String) -> Option<Proxy> {
        Proxy::start(
            "haproxy",
            |_| (),
            |address, directory| {
                let statistics = format!("global\n    stats socket {directory}/stats mode 600 level admin\n");
                statistics + &configuration(address)
            },
        )
    }

    /// Starts nginx with one server of HTTP, whose `listen` line has these further words, and whose block has this in it.
    /// `None`: it is not installed.
    #[track_caller]
    pub fn nginx_http(listen: &str, server: &str) -> Option<Proxy> {
        Proxy::start(
            "nginx",
            |_| (),
            |address, directory| {
                format!(
                    "daemon off; master_process off; pid {directory}/pid; error_log stderr;
                events {{ worker_connections 64; }}
                http {{
                    access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
                    fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
                    scgi_temp_path {directory}/scgi;
                    server {{ listen {address} {listen}; {server} }}
                }}"
                )
            },
        )
    }

    fn start(
        program: &str,
        prepare: impl Fn(&Path),
        configuration: impl Fn(SocketAddr, &str) -> String,
    ) -> Option<Proxy> {
        let mut command = installed(program)?;
        let address = SocketAddr::from((own_ip(), 7000));
        let directory = Directory::new();
        prepare(directory.path());
        let file = directory.path().join("configuration");
        let path = directory.path().to_str().expect("a path of ASCII");
        // HAProxy warns of a last line without an end.
        fs::write(&file, configuration(address, path) + "\n").expect("it can be written");
        match program {
            "nginx" => command.args(["-e", "stderr", "-p"]).arg(directory.path()).arg("-c").arg(&file),
            _ => command.arg("-q").arg("-f").arg(&file),
        };
        let mut process = Process::start(&mut command);
        // HAProxy listens on its port before it does on its socket.
        let socket = directory.path().join("stats");
        let has_socket = || program != "haproxy" || UnixStream::connect(&socket).is_ok();
        eventually("the proxy serves", || {
            assert!(!process.has_ended(), "{program} ended: {}", process.error_line());
            has_socket() && TcpStream::connect(address).is_ok()
        });
        Some(Proxy { address, process, directory })
    }

    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(&self.address.into())
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A column of what HAProxy's statistics say of the server `app`.
    #[track_caller]
    pub fn stat(&self, column: &str) -> String {
        self.stat_of("app", column)
    }

    /// A column of what HAProxy's statistics say of this server.
    #[track_caller]
    pub fn stat_of(&self, server: &str, column: &str) -> String {
        let mut socket = UnixStream::connect(self.path("stats")).expect("HAProxy has its socket");
        socket.write_all(b"show stat\n").expect("HAProxy listens");
        let mut table = String::new();
        socket.read_to_string(&mut table).expect("HAProxy answers");
        let mut lines = table.lines().map(|line| line.trim_start_matches("# ").split(',').collect::<Vec<_>>());
        let names = lines.next().expect("the names of the columns");
        let server = lines.find(|line| line.get(1) == Some(&server)).expect("the server");
        let position = names.iter().position(|name| *name == column).expect("a column of this name");
        server[position].to_owned()
    }

    /// Ends it.
    pub fn stop(mut self) {
        self.process.signal("TERM");
        self.process.ended();
    }
}

/// Makes a certificate of an authority of its own in this directory: `NAME.crt`, `NAME.key`, and both in `NAME.pem`.
#[track_caller]
pub fn make_certificate(directory: &Path, name: &str) {
    let [key, certificate, both] = ["key", "crt", "pem"].map(|kind| directory.join(format!("{name}.{kind}")));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |file: &Path| fs::read(file).expect("it was made");
    fs::write(both, [read(&certificate), read(&key)].concat()).expect("it can be written");
}
