"""Breaks the hand-over protocol in one step after the other, each of which the model must find.

    $ python3 tests/model/broken.py [PART OF A NAME]…

works on a copy, in `target/model-broken`, and takes some ten seconds a step. It ends with 1 if the model has missed one.
"""

import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = "sockserver/src/concurrency/event_loop"
COPY = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "model-broken"

# What is broken, where, and how: this text, and what comes in its place.
STEPS = [
    # The lend.
    ("the turn runs before the loop is lent", "hand_over.rs",
     "let lend = shared.lending.lend(of);\n            self.work.run(&mut turn, TurnContext { lend: Some((shared, lend)) });",
     "self.work.run(&mut turn, TurnContext { lend: None });\n            let lend = shared.lending.lend(of);"),
    ("the monitor does not see the lend", "lending.rs", "self.current.store(desk.lends, Release);", ""),
    ("the monitor takes the loop, and nobody drives it", "hand_over.rs",
     "return self.drive(number, of);\n                }\n            }", "drop(of); return;\n                }\n            }"),
    ("the monitor gives its role to nobody", "hand_over.rs",
     "let _ = self.start_if_needed(self.threads.submit(Job::Monitor(watch), Urgency::Second));", "drop(watch);"),
    ("the thread that was left behind keeps its turn", "hand_over.rs",
     "None => return self.give_back(number, turn, TurnHistory::note_slow),", "None => return,"),
    ("a spare thread keeps its turn", "hand_over.rs",
     "self.give_back(number, turn, if is_quick { TurnHistory::note_quick } else { TurnHistory::note_slow });", "let _ = is_quick;"),
    # The inbox, and the sleep of the owner.
    ("the owner falls asleep over its mail", "inbox.rs", "if !state.mails.is_empty() {", "if false {"),
    ("who posts does not learn that the owner sleeps", "inbox.rs", "match mem::take(&mut state.is_asleep) {", "match false {"),
    ("who posts does not wake the owner", "hand_over.rs", "self.work.wake(number);", ""),
    ("the owner does not say that it is awake", "inbox.rs", "self.state.lock().is_asleep = false;", ""),
    ("the owner does not see that there is mail", "inbox.rs", "self.has_mail.store(true, Relaxed);", ""),
    # The sleep of the monitor.
    ("an owner that is awake does not rouse the monitor", "hand_over.rs", "                        self.doze.rouse();\n", ""),
    ("the monitor dozes without a last look", "monitor.rs", "if !are_all_asleep() {", "if false {"),
    ("the monitor says after its last look that it dozes", "monitor.rs",
     "        self.is_dozing.store(true, SeqCst);\n        if !are_all_asleep() {\n            self.is_dozing.store(false, SeqCst);\n        }",
     "        if are_all_asleep() {\n            self.is_dozing.store(true, SeqCst);\n        }"),
    ("the monitor is roused without the lock", "monitor.rs", "let _lock = self.lock.lock();", ""),
    ("the monitor is not notified", "monitor.rs", "self.roused.notify_one();", ""),
    # The threads.
    ("no spare thread is called for a job", "loop_threads.rs", "self.called.notify_one();", ""),
    ("no spare thread is called at the end", "loop_threads.rs", "self.called.notify_all();", ""),
    ("the end is not told", "hand_over.rs", "self.threads.close();", ""),
    ("there are more threads than the limit", "loop_threads.rs", "state.threads < self.limit", "true"),
    ("spare threads run turns though there may be none", "hand_over.rs",
     "has_servers: threads > loops + 1 + RESERVED", "has_servers: true"),
    ("a turn whose thread cannot be started is left in the queue", "hand_over.rs",
     "if self.start_if_needed(call).is_ok() {", "let _ = self.start_if_needed(call); if true {"),
    # Several loops.
    ("a further loop is not counted", "hand_over.rs", "self.running.fetch_add(1, SeqCst);", ""),
    ("a loop that cannot be started stays counted", "hand_over.rs",
     "            self.end_loop();\n            return started;", "            return started;"),
    ("the monitor looks at the first loop only", "hand_over.rs",
     "in self.loops[..self.started()].iter().enumerate()", "in self.loops[..1].iter().enumerate()"),
    ("the monitor dozes when the first loop sleeps", "hand_over.rs",
     "self.loops[..self.started()].iter().all(", "self.loops[..1].iter().all("),
    # Connections that are given away.
    ("a connection that was given away has its old address", "../../io/host.rs",
     "self.address.store(u64::from(of_loop) << 32 | u64::from(slot), SeqCst);", "let _ = (of_loop, slot);"),
    ("a loop ends while a connection is on its way to it", "occupancy.rs",
     "self.connections.compare_exchange(0, ENDED, SeqCst, SeqCst).is_ok()", "true"),
    ("a loop that has ended is given a connection", "occupancy.rs",
     "connections.checked_add(1)", "Some(connections.wrapping_add(1))"),
    ("no monitor is started", "hand_over.rs",
     "let monitor = self.start_if_needed(self.threads.submit(Job::Monitor(watch), Urgency::Second));",
     "let monitor = { drop(watch); Ok(()) };"),
]


def is_found(file: str, text: str, other: str) -> bool:
    path = COPY / FILES / file
    before = path.read_text()
    if before.count(text) != 1:
        sys.exit(f"{file} does not contain this once: {text}")
    path.write_text(before.replace(text, other))
    test = ["cargo", "test", "--manifest-path", COPY / "tests/model/Cargo.toml", "--release", "--test", "hand_over"]
    try:
        # A step that makes a thread run for ever is found too.
        output = subprocess.run(test, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return True
    finally:
        path.write_text(before)
    if "could not compile" in output.stderr:
        sys.exit(f"{file}: {output.stderr}")
    return output.returncode != 0


def main() -> None:
    shutil.rmtree(COPY, ignore_errors=True)
    for part in ["Cargo.toml", "README.md", "sockserver", "sockserver-macros", "tests"]:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        (COPY / part).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / part, COPY / part)
    missed = 0
    for name, *step in STEPS:
        if sys.argv[1:] and not any(part in name for part in sys.argv[1:]):
            continue
        found = is_found(*step)
        missed += not found
        print("found " if found else "MISSED", name, flush=True)
    sys.exit(missed > 0)


main()
