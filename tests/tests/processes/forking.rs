//! A process for each request. The servers are processes with one thread each, which a test is not; see
//! `src/bin/server/obedient.rs` for the orders that their clients give.

use std::{
    ffi::OsStr,
    fs, io,
    net::TcpListener,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use sockserver::{Address, HandlerResult, RequestHandler, Server, request_handler};
use sockserver_tests::{
    client::{Client, DatagramClient, eventually},
    place::Place,
    process::{ServerProcess, installed, server, server_program, skip},
    resources::Observed,
};

/// A server that forks.
struct Obedient(ServerProcess);

impl Obedient {
    #[track_caller]
    fn start(transport: &str, settings: &[&str]) -> Obedient {
        let mut command = server("obedient");
        command.args([transport, "forking"]).args(settings);
        Obedient(ServerProcess::start(command, Place::of(transport)))
    }

    /// As [`start`](Self::start), where the system waits for the children: waitpid(2).
    #[track_caller]
    fn ignoring_sigchld(settings: &[&str]) -> Option<Obedient> {
        let ignoring = |program: &OsStr| {
            let mut command = Command::new("env");
            command.arg("--ignore-signal=CHLD").arg(program);
            command
        };
        if !ignoring("true".as_ref()).status().is_ok_and(|status| status.success()) {
            skip("env(1) cannot ignore a signal here");
            return None;
        }
        let mut command = ignoring(server_program().as_ref());
        command.args(["obedient", "tcp", "forking"]).args(settings);
        Some(Obedient(ServerProcess::start(command, Place::of("tcp"))))
    }

    #[track_caller]
    fn connect(&self) -> Client {
        Client::connect(self.0.address())
    }

    /// What `handle_error` was told next, after it was found to have been told in the server's own process.
    #[track_caller]
    fn error(&self) -> String {
        let error = self.0.line_after("error in ");
        error.strip_prefix(&format!("{} of ", self.0.id())).expect("told in the parent").to_owned()
    }

    /// How many processes it has not waited for.
    fn children(&self) -> usize {
        self.0.observed().resources().children
    }

    /// Whether its only child has ended and was not waited for.
    fn has_a_zombie(&self) -> bool {
        let id = self.0.id();
        let child = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        fs::read_to_string(format!("/proc/{}/stat", child.trim())).is_ok_and(|stat| stat.contains(") Z "))
    }

    #[track_caller]
    fn has_no_children(&self) {
        eventually("every child was waited for", || self.children() == 0);
    }

    /// Waits until the server has ended, and returns what it has printed.
    #[track_caller]
    fn output(self) -> String {
        self.0.output()
    }

    /// Stops the server by a client's order.
    #[track_caller]
    fn stop(self) -> String {
        self.connect().send("shutdown\n");
        self.output()
    }
}

/// The child that serves this client.
#[track_caller]
fn process_of(client: &mut Client) -> Observed {
    Observed::of(client.ask("pid").parse().expect("the number of a process"))
}

#[track_caller]
fn kill(pid: &str) {
    Observed::of(pid.parse().expect("the number of a process")).signal("KILL");
}

/// One transport: the tests that all of them pass.
macro_rules! column {
    ($transport:ident, $client:ident) => {
        mod $transport {
            use super::*;

            const TRANSPORT: &str = stringify!($transport);

            #[test]
            fn a_request_is_answered_by_a_child() {
                let server = Obedient::start(TRANSPORT, &[]);
                let mut client = $client::connect(server.0.address());
                assert_eq!(client.ask("echo hello"), "hello");
                let pid = client.ask("pid");
                assert_ne!(pid, server.0.id().to_string());
            }

            #[test]
            fn fifty_clients_at_once_each_get_their_own_answer() {
                let server = Obedient::start(TRANSPORT, &[]);
                let mut clients: Vec<_> = (0..50).map(|_| $client::connect(server.0.address())).collect();
                for (number, client) in clients.iter_mut().enumerate() {
                    client.send(format!("echo client {number}\n"));
                    client.finish();
                }
                for (number, client) in clients.iter_mut().enumerate() {
                    assert_eq!(client.line(), format!("client {number}"));
                }
                drop(clients);
                server.has_no_children();
            }

            #[test]
            fn what_a_handler_changes_in_the_server_stays_in_its_child() {
                let server = Obedient::start(TRANSPORT, &[]);
                for _ in 0..3 {
                    assert_eq!($client::connect(server.0.address()).ask("count"), "1");
                }
            }

            #[test]
            fn an_error_is_told_to_the_parent() {
                let server = Obedient::start(TRANSPORT, &[]);
                $client::connect(server.0.address()).send("fail with a reason\n");
                assert!(server.error().ends_with("in Handle, panic false: handle failed: with a reason"));
                server.has_no_children();
            }

            #[test]
            fn a_panic_is_told_to_the_parent() {
                let server = Obedient::start(TRANSPORT, &[]);
                $client::connect(server.0.address()).send("panic attack\n");
                assert!(server.error().ends_with("in Handle, panic true: handle panicked: attack"));
                server.has_no_children();
            }

            #[test]
            fn a_handler_stops_the_server_from_its_child() {
                let server = Obedient::start(TRANSPORT, &[]);
                let mut client = $client::connect(server.0.address());
                client.send("shutdown\n");
                client.finish();
                let output = server.output();
                assert!(output.contains("ended DrainReport"), "{output}");
            }
        }
    };
}

column!(tcp, Client);
column!(udp, DatagramClient);
column!(unix, Client);
column!(unix_datagram, DatagramClient);

// How children end.

#[test]
fn a_child_holds_nothing_of_its_siblings() {
    let server = Obedient::start("tcp", &[]);
    let mut clients = [(); 3].map(|()| server.connect());
    let descriptors = clients.each_mut().map(|client| process_of(client).descriptors());
    assert_eq!(descriptors, [descriptors[0]; 3]);
}

#[test]
fn a_child_holds_no_connection_that_lingers() {
    let server = Obedient::start("tcp", &[]);
    let mut first = server.connect();
    let descriptors = process_of(&mut first).descriptors();
    // The client does not end, and is waited for.
    first.send("exit 0\n");
    assert_eq!(first.rest(), "");
    server.has_no_children();
    assert_eq!(process_of(&mut server.connect()).descriptors(), descriptors);
}

#[test]
fn a_connection_that_lingers_is_closed_whichever_thread_leads() {
    let server = Obedient::start("tcp", &["allow_threads=true", "leaders=3"]);
    let before = server.0.observed().sockets();
    for _ in 0..10 {
        let mut client = server.connect();
        assert_eq!(client.ask("echo hello"), "hello");
        client.send("exit 0\n");
        assert_eq!(client.rest(), "");
        drop(client);
        eventually("it is closed", || server.0.observed().sockets() == before);
    }
}

#[test]
fn a_client_sees_the_end_while_the_parent_does_nothing() {
    let server = Obedient::start("tcp", &[]);
    let mut client = server.connect();
    assert_eq!(client.ask("echo hello"), "hello");
    server.0.signal("STOP");
    eventually("it does nothing", || server.0.observed().is_stopped());
    client.finish();
    assert_eq!(client.rest(), "");
    server.0.signal("CONT");
    server.has_no_children();
}

#[test]
fn children_that_the_system_has_waited_for_make_room() {
    let Some(server) = Obedient::ignoring_sigchld(&["connections=1"]) else { return };
    for _ in 0..3 {
        visit(&server);
    }
}

#[test]
fn a_child_that_exits_with_success_has_finished() {
    let server = Obedient::start("tcp", &[]);
    let mut client = server.connect();
    client.send("exit 0\n");
    assert_eq!(client.rest(), "");
    let output = server.stop();
    assert!(output.contains("finished: 2, failed: 0"), "{output}");
}

#[test]
fn a_child_that_ends_by_itself_is_counted_and_how_it_ended_is_told() {
    let server = Obedient::start("tcp", &[]);
    for (order, how) in [("abort", "signal: 6 (SIGABRT)"), ("exit 3", "exit status: 3")] {
        let mut client = server.connect();
        client.send(format!("{order}\n"));
        assert_eq!(client.rest(), "");
        let error = server.error();
        assert!(error.starts_with(&client.address().to_string()), "{error}");
        assert!(error.contains("in Handle, panic false") && error.contains(how), "{order}: {error}");
    }
    let mut client = server.connect();
    let pid = client.ask("hang");
    kill(&pid);
    assert!(server.error().contains("signal: 9 (SIGKILL)"));
    assert_eq!(client.rest(), "");

    assert_eq!(server.connect().ask("echo still there"), "still there");
    let output = server.stop();
    assert!(output.contains("failed: 3, panicked: 0"), "{output}");
}

#[test]
fn requests_are_counted_by_how_they_ended_in_the_children() {
    let server = Obedient::start("tcp", &[]);
    assert_eq!(server.connect().ask("echo fine"), "fine");
    server.connect().send("panic attack\n");
    server.error();
    server.connect().send("fail\n");
    server.error();
    let mut client = server.connect();
    client.send("no end of line, and");
    client.reset();
    assert!(server.error().contains("Connection reset"));
    server.has_no_children();
    let output = server.stop();
    let stats = "accepted: 5, active: 0, finished: 2, failed: 1, panicked: 1, disconnected: 1, timed_out: 0";
    assert!(output.contains(stats), "{output}");
}

#[test]
fn children_are_waited_for_when_they_end_and_not_when_the_next_client_comes() {
    let server = Obedient::start("tcp", &[]);
    // The best of several, as others use this machine too.
    let waits = (0..10).map(|_| {
        visit(&server);
        let ended = Instant::now();
        server.has_no_children();
        ended.elapsed()
    });
    let least = waits.min();
    assert!(least.is_some_and(|least| least < Duration::from_secs(1)), "{least:?}");
}

#[test]
fn a_burst_of_children_leaves_no_zombie() {
    let server = Obedient::start("tcp", &[]);
    for _ in 0..5 {
        let mut clients: Vec<_> = (0..30).map(|_| server.connect()).collect();
        clients.iter_mut().for_each(Client::finish);
        clients.iter_mut().for_each(Client::wait_for_end);
    }
    server.has_no_children();
    let output = server.stop();
    assert!(output.contains("accepted: 151, active: 0, finished: 151"), "{output}");
}

#[test]
fn the_exit_status_of_a_child_of_somebody_elses_is_left_alone() {
    let server = Obedient::start("tcp", &["foreign=72", "connections=1"]);
    // Also at the limit, where Python waits for any child.
    for _ in 0..5 {
        let mut client = server.connect();
        assert_eq!(client.ask("echo hello"), "hello");
        let mut next = server.connect();
        next.send("echo hello\n");
        client.finish();
        assert_eq!(next.line(), "hello");
    }
    eventually("only the foreign child is left, as a zombie", || server.children() == 1);
    let output = server.stop();
    assert!(output.contains("foreign exit status: 72"), "{output}");
}

// The limit of children.

#[test]
fn clients_above_the_limit_of_children_wait_for_their_turn() {
    let server = Obedient::start("tcp", &["connections=2"]);
    let mut clients: Vec<_> = (0..6).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("pid\n");
    }
    for client in &mut clients {
        client.line();
        assert!(server.children() <= 2);
        client.finish();
    }
}

#[test]
fn the_limit_of_children_does_not_hold_up_shutdown() {
    let server = Obedient::start("tcp", &["connections=1"]);
    let mut client = server.connect();
    let pid = client.ask("pid");
    let mut waiting = server.connect();
    client.send("shutdown\nhang\n");
    assert_eq!(client.line(), pid);
    assert_port_is_free(server.0.address());
    waiting.wait_for_end();
    // The rest of its time is the child's own.
    assert_eq!(server.children(), 1);
    kill(&pid);
    assert!(server.output().contains("ended DrainReport { in_time: 1, forced: 0, leaked: 0 }"));
}

// The drain.

#[track_caller]
fn assert_port_is_free(address: &Address) {
    let port = address.port().expect("a port");
    eventually("the port is free", || TcpListener::bind(("127.0.0.1", port)).is_ok());
}

/// Whether the drain has cut somebody, and waited for the end of all. The child that has told the server to stop may
/// not have ended in time either.
#[track_caller]
fn assert_forced(output: &str) {
    let forced = ["forced: 1, leaked: 0", "forced: 2, leaked: 0"];
    assert!(forced.iter().any(|forced| output.contains(forced)), "{output}");
}

#[test]
fn a_child_that_is_between_two_requests_sees_the_end_at_once() {
    let server = Obedient::start("tcp", &[]);
    let mut client = server.connect();
    assert_eq!(client.ask("echo hello"), "hello");
    let output = server.stop();
    assert_eq!(client.rest(), "");
    assert!(output.contains("forced: 0, leaked: 0"), "{output}");
    assert!(!output.contains("error in"), "{output}");
}

#[test]
fn a_child_that_does_not_end_in_time_is_terminated() {
    let server = Obedient::start("tcp", &["shutdown=50"]);
    let mut client = server.connect();
    let pid = client.ask("until_terminated");
    let output = server.stop();
    assert!(output.contains(&format!("terminated {pid}")), "{output}");
    assert_forced(&output);
}

#[test]
fn a_child_that_the_drain_has_ended_did_not_end_by_itself() {
    let server = Obedient::start("tcp", &["shutdown=50"]);
    let mut client = server.connect();
    client.ask("hang");
    let output = server.stop();
    assert_forced(&output);
    assert!(!output.contains("by itself"), "{output}");
    assert!(output.contains("failed: 0"), "{output}");
}

#[test]
fn a_child_that_the_drain_has_ended_did_not_end_by_itself_where_its_status_is_not_known_either() {
    let Some(server) = Obedient::ignoring_sigchld(&["shutdown=50"]) else { return };
    let mut client = server.connect();
    client.ask("hang");
    let output = server.stop();
    assert_forced(&output);
    assert!(!output.contains("by itself"), "{output}");
    assert!(output.contains("failed: 0"), "{output}");
}

#[test]
fn a_child_that_ignores_its_termination_is_killed() {
    let server = Obedient::start("tcp", &["shutdown=50"]);
    let mut client = server.connect();
    client.ask("ignore_termination");
    server.connect().send("shutdown\n");
    assert_port_is_free(server.0.address());
    let output = server.output();
    assert!(output.contains("signal: 9 (SIGKILL)"), "{output}");
    assert_forced(&output);
}

#[test]
fn a_child_that_has_left_its_files_to_a_process_of_its_own_does_not_hold_up_the_end() {
    let server = Obedient::start("tcp", &["shutdown=50"]);
    server.connect().send("leave_the_pipes_and_abort 30\n");
    eventually("it has ended", || server.has_a_zombie());
    let output = server.stop();
    assert!(output.contains("signal: 6 (SIGABRT)"), "{output}");
    assert_forced(&output);
}

#[test]
fn the_child_of_a_single_request_does_not_keep_the_port() {
    let server = Obedient::start("tcp", &["requests=1", "first=hang"]);
    let pid = server.connect().line();
    assert_port_is_free(server.0.address());
    kill(&pid);
    server.output();
}

#[test]
fn the_port_is_free_from_the_start_of_the_drain() {
    let server = Obedient::start("tcp", &[]);
    let mut client = server.connect();
    let pid = client.ask("hang");
    server.connect().send("shutdown\n");
    assert_port_is_free(server.0.address());
    // A process that another test starts has a copy of what was bound here until it becomes its program.
    eventually("nobody listens", || Client::try_connect(server.0.address()).is_err());
    // The child has not been told to end: there is plenty of time left.
    eventually("it alone is left", || server.children() == 1);
    kill(&pid);
    server.output();
}

#[test]
fn the_file_of_a_unix_socket_is_removed_by_the_parent_alone() {
    let server = Obedient::start("unix", &[]);
    let file = server.0.address().path().expect("a path").to_owned();
    let mut client = server.connect();
    assert_eq!(client.ask("echo hello"), "hello");
    drop(client);
    server.has_no_children();
    assert!(file.exists());
    server.stop();
    assert!(!file.exists());
}

#[test]
fn server_close_is_called_once_and_in_the_parent() {
    let server = Obedient::start("tcp", &[]);
    let process = server.0.id();
    assert_eq!(server.connect().ask("echo hello"), "hello");
    let output = server.stop();
    let closed: Vec<_> = output.lines().filter(|line| line.starts_with("closed")).collect();
    assert_eq!(closed, [format!("closed in {process}")]);
}

#[test]
fn an_error_that_panics_when_it_is_told_goes_no_further_than_the_child() {
    let server = Obedient::start("tcp", &[]);
    server.connect().send("fail_unspeakably\n");
    assert!(server.error().contains("exit status: 1"));
    let output = server.stop();
    assert_eq!(output.matches("ended DrainReport").count(), 1, "{output}");
    assert_eq!(output.matches("closed in").count(), 1, "{output}");
}

/// A child has ended, and the system has waited for it; another process has its number. `fault`: what pidfd_open(2) fails
/// with in the server.
fn a_process_with_the_number_of_a_child_that_has_ended_is_left_alone(order: &str, fault: Option<&str>) {
    // Numbers of its own, the next of which can be chosen.
    let numbered = |program: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", "\"$@\"; exit $?", "sh"]);
        command.args(program);
        command
    };
    let can_choose = "echo 300 >/proc/sys/kernel/ns_last_pid";
    if !numbered(&["sh", "-c", can_choose]).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return println!("skipped: the number of a process cannot be chosen here");
    }
    let mut command = numbered(&["env", "--ignore-signal=CHLD"]);
    if let Some(error) = fault {
        if installed("strace").is_none() {
            return;
        }
        let inject = format!("--inject=pidfd_open:error={error}");
        command.args(["strace", "--quiet=all", "--output=/dev/null", "--trace=pidfd_open", &inject]);
    }
    command.arg(server_program());
    command.args(["obedient", "tcp", "forking", "shutdown=50", "allow_threads=true"]);
    command.arg("impostors=true");
    let mut server = ServerProcess::start(command, Place::of("tcp"));
    let mut client = Client::connect(server.address());
    let number = client.ask("pid");
    client.send("leave_the_pipes_and_abort 30\n");
    let order = order.replace("NUMBER", &number);
    server.enter(&order);
    server.line_after(&format!("started {order}"));
    Client::connect(server.address()).send("shutdown\n");
    let output = server.output();
    assert!(output.contains("impostor runs: true"), "{output}");
    // On a busy machine the connection that has said `shutdown` may still be there.
    let drained = [1, 2].map(|forced| format!("forced: {forced}, leaked: 0"));
    assert!(drained.iter().any(|drained| output.contains(drained)), "{output}");
}

#[test]
fn the_drain_spares_another_child_with_the_number_of_one_that_has_ended() {
    a_process_with_the_number_of_a_child_that_has_ended_is_left_alone("NUMBER", None);
}

#[test]
fn the_drain_spares_another_process_with_the_number_of_a_child_that_has_ended() {
    a_process_with_the_number_of_a_child_that_has_ended_is_left_alone("foreign NUMBER", None);
}

#[test]
fn the_drain_spares_another_process_with_the_number_of_a_child_where_there_are_only_numbers() {
    a_process_with_the_number_of_a_child_that_has_ended_is_left_alone("foreign NUMBER", Some("ENOSYS"));
}

// What is printed.

#[test]
fn what_a_handler_prints_is_not_lost_and_what_was_printed_before_not_doubled() {
    let server = Obedient::start("tcp", &["print=before "]);
    for number in 0..3 {
        let mut client = server.connect();
        client.send(format!("print by-{number}\n"));
        client.finish();
        assert_eq!(client.rest(), "");
    }
    server.has_no_children();
    let printed = server.stop();
    for part in ["before", "by-0", "by-1", "by-2"] {
        assert_eq!(printed.matches(part).count(), 1, "{part} in {printed}");
    }
}

// Threads.

#[test]
fn a_server_that_was_bound_before_a_fork_is_served_and_ends_after_it() {
    for what in ["another", "nothing"] {
        let place = Place::unix();
        let path = place.path().to_str().expect("text");
        let server = Obedient::start("tcp", &[&format!("another={path}")]);
        let mut client = server.connect();
        client.send(format!("serve {what}\n"));
        if what == "another" {
            client.line();
            Client::connect(place.address()).send("end\n");
        }
        assert_eq!(client.line(), "served");
        assert!(!place.path().exists(), "the file is removed by whoever has served");
    }
}

#[test]
fn a_process_that_has_several_threads_is_not_forked() {
    let server = Obedient::start("tcp", &["threads=2"]);
    let message = server.0.line_after("failed Unsupported: ");
    assert!(message.contains("has 3 threads"), "{message}");
    assert!(message.contains("`allow_threads = true`"), "{message}");
}

/// A client that is answered and ends.
fn visit(server: &Obedient) {
    let mut client = server.connect();
    assert_eq!(client.ask("echo hello"), "hello");
    client.finish();
    assert_eq!(client.rest(), "");
}

#[test]
fn a_lock_of_the_standard_output_holds_up_no_fork_and_no_child() {
    let server = Obedient::start("tcp", &["allow_threads=true", "hold_stdout=true"]);
    for _ in 0..3 {
        visit(&server);
    }
    server.has_no_children();
}

#[test]
fn the_end_of_a_child_is_noticed_by_whichever_thread_leads() {
    let server = Obedient::start("tcp", &["allow_threads=true", "connections=1", "leaders=2"]);
    for _ in 0..10 {
        visit(&server);
    }
}

#[test]
fn a_child_is_not_held_up_by_a_thread_that_was_in_a_signal_handler() {
    let server = Obedient::start("tcp", &["allow_threads=true", "signals=true", "signalled=true"]);
    for _ in 0..10 {
        visit(&server);
    }
    server.has_no_children();
}

#[test]
fn children_end_with_their_parent_although_other_threads_change_what_signals_do() {
    let server = Obedient::start("tcp", &["allow_threads=true", "signals=true", "rebinding=true"]);
    let mut clients: Vec<_> = (0..30).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask("echo hello"), "hello");
    }
    server.0.signal("KILL");
    for client in &mut clients {
        client.wait_for_end();
    }
}

#[test]
fn a_child_whose_parent_was_killed_before_it_knew_how_to_end_with_it_ends() {
    let Some(mut command) = installed("strace") else { return };
    // It is the server's parent's child, and the server this test's.
    command.args(["-D", "--follow-forks", "--quiet=all", "--output=/dev/null", "--trace=prctl"]);
    command.arg("--inject=prctl:delay_enter=1s").arg(server_program());
    command.args(["obedient", "tcp", "forking", "signals=true"]);
    let server = Obedient(ServerProcess::start(command, Place::of("tcp")));
    let mut client = server.connect();
    eventually("it has forked", || server.children() == 1);
    server.0.signal("KILL");
    // It has nothing to read, and so would not end for another reason.
    client.wait_for_end();
}

#[test]
fn a_child_is_not_held_up_by_a_thread_that_was_waiting_for_others() {
    let server = Obedient::start("tcp", &["allow_threads=true", "leaders=4"]);
    let address = server.0.address();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let mut client = Client::connect(address);
                    assert_eq!(client.ask("echo hello"), "hello");
                    client.finish();
                    client.wait_for_end();
                }
            });
        }
    });
    server.has_no_children();
}

#[test]
fn a_process_of_which_the_number_of_threads_is_not_known_is_not_forked() {
    // A mount namespace of its own, in which there is no proc(5).
    let without_proc = |program: &OsStr| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", "umount -l /proc && exec \"$0\" \"$@\""]).arg(program);
        command
    };
    if !without_proc("true".as_ref()).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return println!("skipped: unshare(1) cannot make a mount namespace here");
    }
    let mut command = without_proc(server_program().as_ref());
    command.args(["obedient", "tcp", "forking"]);
    let server = Obedient(ServerProcess::start(command, Place::of("tcp")));
    let message = server.0.line_after("failed Unsupported: ");
    assert!(message.contains("the number of threads of this process is unknown"), "{message}");
    assert!(message.contains("`allow_threads = true`"), "{message}");
}

#[test]
fn handle_request_does_not_fork_a_process_that_has_several_threads_either() {
    let server = Obedient::start("tcp", &["threads=1", "requests=1"]);
    let mut client = server.connect();
    assert_eq!(client.rest(), "");
    let error = server.error();
    assert!(error.contains("in ProcessRequest") && error.contains("has 2 threads"), "{error}");
}

#[test]
fn a_process_that_has_several_threads_is_forked_when_it_is_allowed() {
    let server = Obedient::start("tcp", &["threads=2", "allow_threads=true"]);
    assert_eq!(server.connect().ask("echo hello"), "hello");
    assert!(server.stop().contains("ended DrainReport"));
}

#[test]
fn a_server_that_forks_is_not_spawned_unless_threads_are_allowed() {
    #[derive(Server)]
    #[server(transport = "tcp", concurrency = "forking", handler = Idle)]
    struct Forking;

    #[request_handler]
    struct Idle;

    impl RequestHandler for Idle {
        fn handle(&mut self) -> HandlerResult {
            Ok(())
        }
    }

    let error = Forking.bind("127.0.0.1:0").expect("a free port").spawn().expect_err("it would be a second thread");
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("`allow_threads = true`"), "{error}");
    let mut options = Forking::OPTIONS;
    options.allow_threads = true;
    Forking
        .bind_with("127.0.0.1:0", options)
        .expect("a free port")
        .spawn()
        .expect("it is allowed")
        .stop()
        .expect("idle");
}

// One request at a time.

#[test]
fn handle_request_forks_and_the_end_of_the_server_waits_for_its_children() {
    let server = Obedient::start("tcp", &["requests=2"]);
    let mut first = server.connect();
    assert_ne!(first.ask("pid"), server.0.id().to_string());
    // With the second request the program drops its server.
    let mut second = server.connect();
    second.wait_for_end();
    assert_eq!(first.rest(), "");
    let output = server.output();
    assert!(output.contains("accepted: 2, active: 0"), "{output}");
}

#[test]
fn a_request_that_handle_request_has_taken_is_served_although_the_server_is_dropped() {
    let server = Obedient::start("tcp", &["requests=1", "first=fail after all"]);
    assert_eq!(server.connect().rest(), "");
    let output = server.output();
    assert!(output.contains("handle failed: after all"), "{output}");
}
