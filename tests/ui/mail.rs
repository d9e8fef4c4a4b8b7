use sockserver::{
    HandlerResult, MailHandler, Mailbox, MessageHandler, RequestHandler, Server, message_handler, request_handler,
};

#[message_handler(framing = "line")]
#[server(transport = "tcp", concurrency = "forking")]
struct Forks {
    mailbox: Mailbox<String>,
    other: Mailbox<u64>,
}

impl MessageHandler for Forks {
    type Message = String;

    fn message(&mut self, _: String) -> HandlerResult {
        Ok(())
    }
}

impl MailHandler for Forks {
    type Mail = String;

    fn mail(&mut self, _: String) -> HandlerResult {
        Ok(())
    }
}

#[request_handler(mailbox = 0)]
#[server(transport = "tcp", concurrency = "forking")]
struct ForksToo {
    mailbox: Mailbox<String>,
}

impl RequestHandler for ForksToo {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[message_handler(framing = "line")]
#[server(transport = "tcp", concurrency = "threading")]
struct NeverReadsItsMail {
    mailbox: Mailbox<String>,
}

impl MessageHandler for NeverReadsItsMail {
    type Message = String;

    fn message(&mut self, _: String) -> HandlerResult {
        Ok(())
    }
}

#[message_handler(framing = "line")]
#[server(transport = "tcp", concurrency = "threading")]
struct OtherMail {
    mailbox: Mailbox<String>,
}

impl MessageHandler for OtherMail {
    type Message = String;

    fn message(&mut self, _: String) -> HandlerResult {
        Ok(())
    }
}

impl MailHandler for OtherMail {
    type Mail = u64;

    fn mail(&mut self, _: u64) -> HandlerResult {
        Ok(())
    }
}

#[message_handler(framing = "line")]
#[server(transport = "tcp", concurrency = "threading")]
struct WithoutMailbox;

impl MessageHandler for WithoutMailbox {
    type Message = String;

    fn message(&mut self, _: String) -> HandlerResult {
        Ok(())
    }
}

impl MailHandler for WithoutMailbox {
    type Mail = u64;

    fn mail(&mut self, _: u64) -> HandlerResult {
        Ok(())
    }
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "forking", handler = Mailed)]
struct ForksFor;

#[request_handler]
struct Mailed {
    mailbox: Mailbox<String>,
}

impl RequestHandler for Mailed {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

fn main() {}
