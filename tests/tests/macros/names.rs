//! The table in the crate documentation that says where each name of Python's `socketserver` lives.

use sockserver_tests::process::installed;

const PAGE: &str = include_str!("../../../sockserver/docs/guide/python.md");

/// Each class with its methods and attributes, the parameters among them that have names, and what instances get.
const NAMES: &[(&str, &str)] = &[
    (
        "BaseServer",
        "RequestHandlerClass close_request fileno finish_request handle_error handle_request handle_timeout \
         poll_interval process_request serve_forever server_activate server_address server_close service_actions \
         shutdown shutdown_request timeout verify_request with",
    ),
    (
        "TCPServer",
        "address_family allow_reuse_address allow_reuse_port bind_and_activate close_request fileno get_request \
         request_queue_size server_activate server_bind server_close shutdown_request socket socket_type",
    ),
    (
        "UDPServer",
        "allow_reuse_address allow_reuse_port close_request get_request max_packet_size server_activate \
         shutdown_request socket_type",
    ),
    ("UnixStreamServer", "address_family"),
    ("UnixDatagramServer", "address_family"),
    (
        "ForkingMixIn",
        "active_children block_on_close collect_children handle_timeout max_children process_request server_close \
         service_actions timeout",
    ),
    ("ThreadingMixIn", "block_on_close daemon_threads process_request process_request_thread server_close"),
    ("ForkingTCPServer", ""),
    ("ForkingUDPServer", ""),
    ("ForkingUnixStreamServer", ""),
    ("ForkingUnixDatagramServer", ""),
    ("ThreadingTCPServer", ""),
    ("ThreadingUDPServer", ""),
    ("ThreadingUnixStreamServer", ""),
    ("ThreadingUnixDatagramServer", ""),
    ("BaseRequestHandler", "client_address finish handle request server setup"),
    ("StreamRequestHandler", "connection disable_nagle_algorithm finish rbufsize rfile setup timeout wbufsize wfile"),
    ("DatagramRequestHandler", "finish packet rfile setup socket wfile"),
];

/// The first column of the table.
fn names_in_the_table() -> Vec<&'static str> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let names: Vec<_> = rows.flat_map(|cell| cell.split(|c: char| !(c.is_alphanumeric() || c == '_'))).collect();
    assert!(!names.is_empty(), "the table has moved");
    names
}

#[test]
fn every_name_of_pythons_module_is_in_the_table() {
    let table = names_in_the_table();
    for (class, members) in NAMES {
        for name in members.split(' ').filter(|name| !name.is_empty()).chain([*class]) {
            assert!(table.contains(&name), "{class}: `{name}` is not in the table of the guide");
        }
    }
}

#[test]
fn python_has_no_name_that_is_not_listed() {
    let Some(mut python) = installed("python3") else { return };
    let script = "import inspect, socketserver as module
for name, kind in vars(module).items():
    if inspect.isclass(kind) and kind.__module__ == module.__name__ and not name.startswith('_'):
        print(name, *(member for member in vars(kind) if not member.startswith('_')))";
    let output = python.args(["-c", script]).output().expect("python3 starts");
    let output = String::from_utf8(output.stdout).expect("names are ASCII");
    assert!(output.contains("BaseServer"), "{output}");
    for line in output.lines() {
        let (class, members) = line.split_once(' ').unwrap_or((line, ""));
        let listed = NAMES.iter().find(|(name, _)| *name == class).map(|(_, members)| members.split(' ').collect());
        let listed: Vec<_> = listed.unwrap_or_else(|| panic!("the class {class} is not listed"));
        for member in members.split(' ').filter(|member| !member.is_empty()) {
            assert!(listed.contains(&member), "{class}.{member} is not listed");
        }
    }
}
