use sockserver::*;

#[message_handler(framing = "u32", mailbox = 16)]
pub struct Member {
    answers: FrameWriter<framing::U32>,
    mailbox: Mailbox<String>,
}

impl MessageHandler for Member {
    type Message = str;

    fn message(&mut self, _line: &str) -> HandlerResult {
        Ok(())
    }
}

impl MailHandler for Member {
    type Mail = String;

    fn mail(&mut self, mail: String) -> HandlerResult {
        Ok(self.answers.send(&mail)?)
    }
}
