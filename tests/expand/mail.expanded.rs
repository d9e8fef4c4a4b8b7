use sockserver::*;
pub struct Member {
    answers: FrameWriter<framing::U32>,
    mailbox: Mailbox<String>,
}
#[automatically_derived]
impl<__S: ::sockserver::Server> ::sockserver::FromRequest<__S> for Member
where
    FrameWriter<framing::U32>: ::sockserver::FromRequest<__S>,
    Mailbox<String>: ::sockserver::FromRequest<__S>,
{
    const NEEDS_SHARED_MEMORY: ::core::primitive::bool = <FrameWriter<
        framing::U32,
    > as ::sockserver::FromRequest<__S>>::NEEDS_SHARED_MEMORY
        || <Mailbox<String> as ::sockserver::FromRequest<__S>>::NEEDS_SHARED_MEMORY;
    fn from_request(cx: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        cx.set_mailbox(16);
        ::core::result::Result::Ok(Self {
            answers: <FrameWriter<
                framing::U32,
            > as ::sockserver::FromRequest<__S>>::from_request(cx)?,
            mailbox: <Mailbox<
                String,
            > as ::sockserver::FromRequest<__S>>::from_request(cx)?,
        })
    }
}
#[automatically_derived]
impl ::sockserver::Handler for Member {
    type Runner = ::sockserver::__private::Fitting<
        ::sockserver::MailLoop<Self, ::sockserver::framing::U32>,
        {
            ::sockserver::__private::is_mail_handler::<Member>();
            true
        },
    >;
    const HANDLES_MESSAGES: ::core::primitive::bool = true;
    fn into_messages(
        runner: Self::Runner,
    ) -> ::core::result::Result<
        ::std::boxed::Box<dyn ::sockserver::__private::Messages>,
        Self::Runner,
    > {
        ::core::result::Result::Ok(::std::boxed::Box::new(runner))
    }
}
#[automatically_derived]
impl ::sockserver::HasMailbox<Mailbox<String>> for Member {
    fn mailbox(&mut self) -> &mut Mailbox<String> {
        &mut self.mailbox
    }
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
