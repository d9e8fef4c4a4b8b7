//! A connection that the server ends while its handler has input left that was received already: each kind of handler, in
//! each concurrency.

use std::{
    io::Write,
    marker::PhantomData,
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, Sender},
    },
    time::Duration,
};

use sockserver::{
    Closing, Concurrency, Frames, HandlerResult, MailHandler, Mailbox, MessageHandler, Options, Reader, RequestHandler,
    Server, ServerHandle, Writer, framing::Line, message_handler, request_handler,
};
use sockserver_tests::{
    client::{Client, PATIENCE, eventually},
    concurrencies::set_workers,
    farewell::End,
    in_each_concurrency,
    served::Served,
};

/// What a handler does with a line: it answers, and waits until the test lets it go on.
#[derive(Debug)]
struct Script {
    answered: Sender<String>,
    go_on: Mutex<Receiver<()>>,
    /// What a further answer comes to after the wait, if the handler is to write one.
    late: Option<Sender<End>>,
    goodbyes: Sender<Closing>,
}

impl Script {
    fn answer(&self, line: &str, wfile: &mut Writer) -> HandlerResult {
        writeln!(wfile, "{line}")?;
        // A test that has failed has dropped both.
        let _ = self.answered.send(line.to_owned());
        let _ = self.go_on.lock().unwrap().recv();
        if let Some(late) = &self.late {
            let written = writeln!(wfile, "late");
            let _ = late.send(End::of(&written));
            written?;
        }
        Ok(())
    }

    fn goodbye(&self, why: Closing, wfile: &mut Writer) -> HandlerResult {
        let _ = self.goodbyes.send(why);
        Ok(writeln!(wfile, "bye")?)
    }
}

/// What the test has of it.
struct Scene {
    server: Served,
    client: Client,
    answered: Receiver<String>,
    go_on: Sender<()>,
    goodbyes: Receiver<Closing>,
}

/// Declares a server with one kind of handler.
macro_rules! server {
    ($server:ident, $handler:ident) => {
        #[derive(Server)]
        #[server(transport = "tcp", concurrency = C, handler = $handler<C>)]
        struct $server<C: Concurrency + Default> {
            script: Script,
            concurrency: PhantomData<fn() -> C>,
        }

        impl<C: Concurrency + Default> $server<C> {
            fn serve(options: Options, late: Option<Sender<End>>) -> Scene {
                Scene::new(options, late, |script, options| {
                    let server = $server::<C> { script, concurrency: PhantomData };
                    Served::new(server.bind_with("127.0.0.1:0", options).expect("a free port"))
                })
            }
        }
    };
}

server! { LineServer, Lines }
server! { FrameServer, FramesOf }
server! { MessageServer, Messages }
server! { MailServer, Mails }

#[request_handler]
struct Lines<C: Concurrency + Default> {
    rfile: Reader,
    wfile: Writer,
    server: Arc<LineServer<C>>,
}

impl<C: Concurrency + Default> RequestHandler for Lines<C> {
    fn handle(&mut self) -> HandlerResult {
        while let Some(line) = self.rfile.next_line()? {
            self.server.script.answer(&line, &mut self.wfile)?;
        }
        Ok(())
    }

    fn closing(&mut self, why: Closing) -> HandlerResult {
        self.server.script.goodbye(why, &mut self.wfile)
    }
}

#[request_handler]
struct FramesOf<C: Concurrency + Default> {
    frames: Frames<Line, str>,
    wfile: Writer,
    server: Arc<FrameServer<C>>,
}

impl<C: Concurrency + Default> RequestHandler for FramesOf<C> {
    fn handle(&mut self) -> HandlerResult {
        while let Some(line) = self.frames.next()? {
            self.server.script.answer(line, &mut self.wfile)?;
        }
        Ok(())
    }

    fn closing(&mut self, why: Closing) -> HandlerResult {
        self.server.script.goodbye(why, &mut self.wfile)
    }
}

#[message_handler(framing = "line")]
struct Messages<C: Concurrency + Default> {
    wfile: Writer,
    server: Arc<MessageServer<C>>,
}

impl<C: Concurrency + Default> MessageHandler for Messages<C> {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        self.server.script.answer(line, &mut self.wfile)
    }

    fn closing(&mut self, why: Closing) -> HandlerResult {
        self.server.script.goodbye(why, &mut self.wfile)
    }
}

#[message_handler(framing = "line")]
struct Mails<C: Concurrency + Default> {
    wfile: Writer,
    mailbox: Mailbox<String>,
    server: Arc<MailServer<C>>,
}

impl<C: Concurrency + Default> MessageHandler for Mails<C> {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        // Each mail sends the next one.
        self.mailbox.sender().try_send(line.to_owned())?;
        self.server.script.answer(line, &mut self.wfile)
    }

    fn closing(&mut self, why: Closing) -> HandlerResult {
        self.server.script.goodbye(why, &mut self.wfile)
    }
}

impl<C: Concurrency + Default> MailHandler for Mails<C> {
    type Mail = String;

    fn mail(&mut self, mail: String) -> HandlerResult {
        Ok(self.mailbox.sender().try_send(mail)?)
    }
}

/// More than any handler comes to within a turn, and less than is received at once.
const LINES: usize = 500;

impl Scene {
    /// The handler has answered the first line, which is held back.
    fn new(mut options: Options, late: Option<Sender<End>>, serve: impl FnOnce(Script, Options) -> Served) -> Scene {
        set_workers(&mut options);
        let (sender, answered) = mpsc::channel();
        let (go_on, waiting) = mpsc::channel();
        let (goodbye, goodbyes) = mpsc::channel();
        let script = Script { answered: sender, go_on: Mutex::new(waiting), late, goodbyes: goodbye };
        let server = serve(script, options);
        let mut client = Client::connect(server.server_address());
        client.send((0..LINES).map(|number| format!("{number}\n")).collect::<String>());
        assert_eq!(answered.recv_timeout(PATIENCE).as_deref(), Ok("0"));
        Scene { server, client, answered, go_on, goodbyes }
    }

    /// The server cuts the connection as it stops.
    fn is_cut(&mut self) {
        self.server.shutdown();
        // What was held back came before the end.
        assert_eq!(self.client.rest(), "0\n");
    }

    /// Lets the handler go on, which ends for this reason, and takes no other line.
    fn ends_at_once(&self, why: Closing) {
        for _ in 0..LINES {
            // Once it has ended it no longer waits.
            let _ = self.go_on.send(());
        }
        assert_eq!(self.goodbyes.recv_timeout(PATIENCE), Ok(why));
        eventually("the connection has ended", || self.server.stats().active == 0);
        assert_eq!(self.answered.try_iter().collect::<Vec<_>>(), [""; 0]);
    }
}

type Serve = fn(Options, Option<Sender<End>>) -> Scene;

fn shutdown_after(shutdown: Duration) -> Options {
    let mut options = Options::new();
    options.timeouts.shutdown = shutdown;
    options
}

fn a_cut_ends_a_handler_that_has_more_to_take(serve: Serve) {
    let mut scene = serve(shutdown_after(Duration::from_millis(50)), None);
    scene.is_cut();
    scene.ends_at_once(Closing::Draining);
    let report = scene.server.stop();
    assert_eq!((report.in_time, report.forced, report.leaked), (0, 1, 0));
}

fn a_lifetime_ends_a_handler_that_has_more_to_take(serve: Serve) {
    let mut options = Options::new();
    options.timeouts.lifetime = Some(Duration::from_secs(1));
    ends_before_the_cut(serve(options, None), Closing::Lifetime, |_| true);
}

fn being_closed_ends_a_handler_that_has_more_to_take(serve: Serve) {
    ends_before_the_cut(serve(Options::new(), None), Closing::Kicked, |server| {
        server.close(server.connections()[0].id)
    });
}

fn ends_before_the_cut(mut scene: Scene, why: Closing, end: impl FnOnce(&ServerHandle) -> bool) {
    assert!(end(&scene.server));
    let is_marked = || scene.server.connections().iter().all(|connection| connection.closing == Some(why));
    eventually("the handler has a second left", is_marked);
    scene.ends_at_once(why);
    // A machine that is busy with others may take that second.
    let rest = scene.client.rest();
    assert!(["0\nbye\n", "0\n"].contains(&&*rest), "{rest:?}");
}

fn what_is_written_after_a_cut_fails(serve: Serve) {
    let (late, ends) = mpsc::channel();
    let mut scene = serve(shutdown_after(Duration::from_millis(50)), Some(late));
    scene.is_cut();
    scene.ends_at_once(Closing::Draining);
    assert_eq!(ends.recv_timeout(PATIENCE), Ok(End::Server(Closing::Draining)));
    assert_eq!(scene.server.stop().forced, 1);
}

/// Each of these tests for one kind of handler.
macro_rules! of_each_kind {
    ($($module:ident: $server:ident, [$($word:ident)*];)*) => { $(
        mod $module {
            use super::*;

            fn a_cut_ends_a_handler_that_has_more_to_take<C: Concurrency + Default>() {
                super::a_cut_ends_a_handler_that_has_more_to_take($server::<C>::serve);
            }

            fn a_lifetime_ends_a_handler_that_has_more_to_take<C: Concurrency + Default>() {
                super::a_lifetime_ends_a_handler_that_has_more_to_take($server::<C>::serve);
            }

            fn being_closed_ends_a_handler_that_has_more_to_take<C: Concurrency + Default>() {
                super::being_closed_ends_a_handler_that_has_more_to_take($server::<C>::serve);
            }

            fn what_is_written_after_a_cut_fails<C: Concurrency + Default>() {
                super::what_is_written_after_a_cut_fails($server::<C>::serve);
            }

            in_each_concurrency! { [$($word)*]:
                a_cut_ends_a_handler_that_has_more_to_take
                a_lifetime_ends_a_handler_that_has_more_to_take
                being_closed_ends_a_handler_that_has_more_to_take
                what_is_written_after_a_cut_fails
            }
        }
    )* };
}

of_each_kind! {
    lines: LineServer, [sync threading pool];
    frames: FrameServer, [sync threading pool];
    messages: MessageServer, [sync threading pool event_loop two_loops];
    mail: MailServer, [sync threading pool event_loop two_loops];
}
