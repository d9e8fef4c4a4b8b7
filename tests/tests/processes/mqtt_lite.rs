//! The example `mqtt_lite`, which the clients of Mosquitto talk to.

use std::{
    process::Command,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use sockserver::Address;
use sockserver_tests::{
    client::{Client, eventually},
    place::Place,
    process::{Process, ServerProcess, example, installed},
};

fn broker() -> ServerProcess {
    ServerProcess::start(example("mqtt_lite"), Place::of("tcp"))
}

/// One of Mosquitto's programs, told where the broker is.
fn mosquitto(program: &str, broker: &ServerProcess, words: &[&str]) -> Option<Command> {
    let Address::Inet(address) = broker.address() else { panic!("{} has no port", broker.address()) };
    let mut command = installed(program)?;
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]).args(words);
    Some(command)
}

fn publish(broker: &ServerProcess, words: &[&str]) -> Option<()> {
    let mut command = mosquitto("mosquitto_pub", broker, words)?;
    Process::start(&mut command).output();
    Some(())
}

/// A subscriber that has subscribed: it gets a retained message first.
fn subscribe(broker: &ServerProcess, words: &[&str]) -> Option<Process> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let ready = format!("ready/{}", NEXT.fetch_add(1, Relaxed));
    publish(broker, &["-r", "-t", &ready, "-m", "yes"])?;
    let mut command = mosquitto("mosquitto_sub", broker, &["-v", "-t", &ready])?;
    let subscriber = Process::start(command.args(words));
    assert_eq!(subscriber.line(), format!("{ready} yes"));
    Some(subscriber)
}

/// Connects by hand: CONNECT with this name and keep-alive, and its acknowledgement.
fn connect(broker: &ServerProcess, name: &str, keep_alive: u16) -> Client {
    let mut client = Client::connect(broker.address());
    client.send(packet(0x10, &[b"\0\x04MQTT\x04\x02", &keep_alive.to_be_bytes()[..], &text(name)].concat()));
    assert_eq!(client.bytes(4), b"\x20\x02\0\0");
    client
}

fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
    assert!(rest.len() < 128);
    [&[first, rest.len() as u8], rest].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

#[test]
fn what_is_published_comes_to_those_who_have_subscribed() {
    let broker = broker();
    let Some(all) = subscribe(&broker, &["-t", "house/#"]) else { return };
    let Some(one) = subscribe(&broker, &["-t", "house/+/temperature"]) else { return };
    for (topic, message) in [
        ("house/kitchen/temperature", "21"),
        ("house/kitchen/door", "open"),
        ("garden/temperature", "5"),
        ("house", "is for sale"),
        ("house/cellar/temperature", "12"),
    ] {
        publish(&broker, &["-t", topic, "-m", message]).expect("it is installed");
    }
    let lines = |subscriber: &Process, count: usize| (0..count).map(|_| subscriber.line()).collect::<Vec<_>>();
    let temperatures = ["house/kitchen/temperature 21", "house/cellar/temperature 12"];
    assert_eq!(lines(&one, 2), temperatures);
    assert_eq!(lines(&all, 4), [temperatures[0], "house/kitchen/door open", "house is for sale", temperatures[1]]);
}

#[test]
fn what_is_retained_waits_for_those_who_come_later() {
    let broker = broker();
    let Some(()) = publish(&broker, &["-r", "-t", "lamp", "-m", "on"]) else { return };
    publish(&broker, &["-r", "-t", "lamp", "-m", "off"]).expect("it is installed");
    publish(&broker, &["-t", "lamp", "-m", "not retained"]).expect("it is installed");
    let mut command = mosquitto("mosquitto_sub", &broker, &["-t", "#", "-v", "-C", "1"]).expect("it is installed");
    assert_eq!(Process::start(&mut command).output(), "lamp off\n");
    // An empty one is the end of it.
    publish(&broker, &["-r", "-t", "lamp", "-n"]).expect("it is installed");
    publish(&broker, &["-r", "-t", "other", "-m", "1"]).expect("it is installed");
    let mut command = mosquitto("mosquitto_sub", &broker, &["-t", "#", "-v", "-C", "1"]).expect("it is installed");
    assert_eq!(Process::start(&mut command).output(), "other 1\n");
}

#[test]
fn qos_1_is_acknowledged_and_other_versions_are_refused() {
    let broker = broker();
    let Some(subscriber) = subscribe(&broker, &["-q", "1", "-t", "a"]) else { return };
    publish(&broker, &["-q", "1", "-t", "a", "-m", "1"]).expect("it is installed");
    assert_eq!(subscriber.line(), "a 1");
    let mut command = mosquitto("mosquitto_pub", &broker, &["-V", "5", "-t", "a", "-m", "1"]).expect("it is installed");
    let mut refused = Process::start(&mut command);
    assert!(!refused.ended().success());
    assert!(refused.error_line().contains("unacceptable protocol version") || !refused.error_line().is_empty());
}

#[test]
fn the_will_of_a_device_that_dies_is_published_and_of_one_that_leaves_it_is_not() {
    let broker = broker();
    let Some(subscriber) = subscribe(&broker, &["-t", "will/#", "-t", "end"]) else { return };
    publish(&broker, &["-r", "-t", "ready", "-m", "yes"]).expect("it is installed");
    for (name, is_killed) in [("leaving", false), ("dying", true)] {
        let will = format!("will/{name}");
        let words = ["--will-topic", &will, "--will-payload", "gone", "-t", "ready", "-i", name];
        let mut command = mosquitto("mosquitto_sub", &broker, &words).expect("it is installed");
        let mut device = Process::start(&mut command);
        assert_eq!(device.line(), "yes");
        device.signal(if is_killed { "KILL" } else { "TERM" });
        device.ended();
    }
    assert_eq!(subscriber.line(), "will/dying gone");
    publish(&broker, &["-t", "end", "-m", "1"]).expect("it is installed");
    assert_eq!(subscriber.line(), "end 1");
}

#[test]
fn a_device_that_connects_anew_takes_the_place_of_its_old_connection() {
    let broker = broker();
    let mut old = connect(&broker, "lamp", 60);
    let mut new = connect(&broker, "lamp", 60);
    old.wait_for_end();
    new.send(packet(0xc0, &[]));
    assert_eq!(new.bytes(2), b"\xd0\0");
    // A device without a name has no old one.
    let (mut first, _second) = (connect(&broker, "", 60), connect(&broker, "", 60));
    first.send(packet(0xc0, &[]));
    assert_eq!(first.bytes(2), b"\xd0\0");
}

#[test]
fn a_device_that_is_silent_for_longer_than_it_has_said_is_gone() {
    let broker = broker();
    let mut silent = connect(&broker, "silent", 1);
    let mut patient = connect(&broker, "patient", 0);
    silent.wait_for_end();
    patient.send(packet(0xc0, &[]));
    assert_eq!(patient.bytes(2), b"\xd0\0");
}

#[test]
fn what_is_no_mqtt_ends_its_own_connection_only() {
    let broker = broker();
    let mut good = connect(&broker, "good", 60);
    for bytes in [
        format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(100)).as_bytes(),
        b"\x10\xff\xff\xff\xff\x01",
        b"\x30\x03\0\x01a",
        b"\x10\x02\0\x04",
        b"\xf0\x00",
        &packet(0x10, b"\0\x04MQTT\x04\x02\0\x3c\0\0trailing"),
    ] {
        let mut bad = Client::connect(broker.address());
        bad.send(bytes);
        bad.wait_for_end();
    }
    for bytes in
        [&packet(0x30, &[&text("a/+")[..], b"1"].concat())[..], &packet(0x34, &text("a")), &packet(0x80, b"\0\x01")]
    {
        let mut bad = connect(&broker, "bad", 60);
        bad.send(bytes);
        bad.wait_for_end();
    }
    let mut refused = connect(&broker, "filters", 60);
    refused.send(packet(0x82, &[&b"\0\x07"[..], &text("a/#/b"), b"\0", &text("a"), b"\0"].concat()));
    assert_eq!(refused.bytes(6), b"\x90\x04\0\x07\x80\0");
    good.send(packet(0xc0, &[]));
    assert_eq!(good.bytes(2), b"\xd0\0");
}

#[test]
fn a_device_that_does_not_read_holds_up_nobody() {
    let broker = broker();
    let mut deaf = connect(&broker, "deaf", 0);
    deaf.send(packet(0x82, &[&b"\0\x01"[..], &text("a"), b"\0"].concat()));
    assert_eq!(deaf.bytes(5), b"\x90\x03\0\x01\0");
    let mut sender = connect(&broker, "sender", 0);
    // 20 MB, which no socket holds.
    let message = [&text("a")[..], &[b'x'; 100]].concat();
    for _ in 0..2000 {
        sender.send(packet(0x30, &message).repeat(100));
    }
    sender.send(packet(0xc0, &[]));
    eventually("the sender is served", || sender.bytes(2) == b"\xd0\0");
}
