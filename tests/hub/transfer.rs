//! Downloads: progress, resuming, and servers that misbehave.

use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use meddino::hub::Event;

use crate::server::{Reply, World};
use crate::{Machine, noise, says};

#[test]
fn the_file_arrives_complete_and_progress_is_reported() {
    let world = World::new(noise());
    let machine = Machine::new(&world.hub.address);
    let mut events = Vec::new();
    let path = machine
        .listen(&mut |event| match event {
            Event::Receiving { done, size } => {
                events.push((done, size));
            }
            other => panic!("{other:?}"),
        })
        .expect("fetched");
    assert_eq!(fs::read(&path).expect("read"), noise());
    let size = noise().len() as u64;
    assert_eq!((events[0], events[events.len() - 1]), ((0, size), (size, size)));
    assert!(events.is_sorted());
    let [head] = &world.hub.requests()[..] else { panic!("one question") };
    let at = "/ricklisz123/MedDINOv3-ViTB-16-CT-3M/resolve/main/MedDINOv3-B-CT3M.pth";
    assert_eq!((head.method.as_str(), head.target.as_str(), head.header("accept-encoding")), ("HEAD", at, Some("identity")));
    assert!(head.header("user-agent").expect("a name").starts_with("meddino/"));
    let [get] = &world.storage.requests()[..] else { panic!("one request") };
    assert_eq!((get.method.as_str(), get.target.as_str(), get.header("range")), ("GET", "/store/file?signature=s%2Fecret", None));
}

#[test]
fn a_cut_transfer_resumes_at_its_byte() {
    let world = World::new(noise());
    let cut = |sent| move |reply| Reply { cut: Some((sent, Duration::ZERO)), ..reply };
    world.twist(cut(100_000)).twist(cut(1));
    let machine = Machine::new(&world.hub.address);
    let mut problems = Vec::new();
    let path = machine
        .listen(&mut |event| {
            if let Event::Retrying { problem, .. } = event {
                problems.push(problem);
            }
        })
        .expect("fetched");
    assert_eq!(fs::read(path).expect("read"), noise());
    assert_eq!(world.ranges(), [None, Some("bytes=100000-".into()), Some("bytes=100001-".into())]);
    // The condition is the storage's ETag, not the hub's.
    assert_eq!(world.storage.requests()[1].header("if-range"), Some("\"of-the-storage\""));
    assert_eq!(problems.len(), 2);
    says(&problems[0], &["after 100000 of 1600001 bytes"]);
}

#[test]
fn a_later_process_resumes() {
    let world = World::new(noise());
    let machine = Machine::new(&world.hub.address);
    machine.leave_partial(&world.sha256, &noise()[..700_000]);
    let mut first = None;
    let path = machine.listen(&mut |event| first = first.take().or(Some(event))).expect("fetched");
    assert_eq!(fs::read(path).expect("read"), noise());
    assert_eq!(world.ranges(), [Some("bytes=700000-".into())]);
    assert_eq!(world.storage.requests()[0].header("if-range"), None, "no ETag is known");
    assert!(matches!(first, Some(Event::Receiving { done: 700_000, .. })), "{first:?}");
    // Every byte is already there, so nothing is fetched.
    let machine = Machine::new(&world.hub.address);
    machine.leave_partial(&world.sha256, &noise());
    machine.fetch().expect("checked");
    assert_eq!(world.storage.requests().len(), 1);
}

#[test]
fn a_server_that_ignores_or_confuses_ranges_sends_the_whole_file() {
    let whole = |reply: Reply| Reply { status: 200, headers: vec![], body: noise(), ..reply };
    for (kind, twist) in [
        ("ignored", Box::new(whole) as Box<dyn Fn(Reply) -> Reply + Send>),
        ("another range", Box::new(|reply| Reply { headers: vec![("Content-Range", "bytes 0-1/1600001".into())], ..reply })),
        ("another size", Box::new(|reply| Reply { headers: vec![("Content-Range", "bytes 500-1600000/1600002".into())], ..reply })),
        ("no range", Box::new(|reply| Reply { headers: vec![], ..reply })),
        (
            "unsatisfiable",
            Box::new(|reply| Reply { status: 416, headers: vec![("Content-Type", "text/html".into())], body: vec![], ..reply }),
        ),
    ] {
        let world = World::new(noise());
        world.twist(twist);
        let machine = Machine::new(&world.hub.address);
        machine.leave_partial(&world.sha256, &noise()[..500]);
        let path = machine.fetch().unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert_eq!(fs::read(path).expect("read"), noise(), "{kind}");
        let again = if kind == "ignored" { &[][..] } else { &[None] };
        assert_eq!(world.ranges(), [&[Some("bytes=500-".into())], again].concat(), "{kind}");
    }
}

#[test]
fn damaged_or_too_long_partials_are_fetched_again() {
    for bytes in [vec![7; 500], vec![7; 1_600_001], vec![7; 1_600_002]] {
        let world = World::new(noise());
        let machine = Machine::new(&world.hub.address);
        machine.leave_partial(&world.sha256, &bytes);
        let path = machine.fetch().expect("fetched");
        assert_eq!(fs::read(path).expect("read"), noise());
        assert_eq!(world.ranges().last().expect("asked"), &None);
    }
}

#[test]
fn a_connection_that_keeps_breaking_is_an_error_and_the_partial_stays() {
    let world = World::new(noise());
    for _ in 0..9 {
        world.twist(|reply| Reply { cut: Some((1000, Duration::ZERO)), ..reply });
    }
    let machine = Machine::new(&world.hub.address);
    says(&machine.fail(), &["MedDINOv3-B-CT3M.pth", "of 1600001 bytes", "4 attempts", "resumes"]);
    assert_eq!(fs::read(machine.partial(&world.sha256)).expect("kept"), noise()[..4000]);
    // The count of attempts restarts whenever the file has grown by much, so more cuts than attempts are allowed.
    let world = World::new([noise(), noise(), noise(), noise()].concat());
    for _ in 0..5 {
        world.twist(|reply| Reply { cut: Some((1_200_000, Duration::ZERO)), ..reply });
    }
    Machine::new(&world.hub.address).fetch().expect("fetched");
    assert_eq!(world.ranges().len(), 6);
    // A file that starts again at 0 each time does not grow, so the attempts run out.
    let world = World::new(noise());
    for _ in 0..99 {
        world.twist(|_| Reply { status: 200, body: noise(), cut: Some((1_200_000, Duration::ZERO)), ..Reply::default() });
    }
    Machine::new(&world.hub.address).fail();
    assert_eq!(world.ranges().len(), 4);
}

#[test]
fn a_silent_server_times_out() {
    let world = World::new(noise());
    world.twist(|reply| Reply { cut: Some((5000, Duration::from_mins(1))), ..reply });
    let machine = Machine::new(&world.hub.address).set("HF_HUB_DOWNLOAD_TIMEOUT", "1");
    let started = Instant::now();
    machine.fetch().expect("fetched at the second attempt");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(world.ranges(), [None, Some("bytes=5000-".into())]);
}

#[test]
fn wrong_bytes_are_never_stored_under_the_final_name() {
    let flipped = |mut reply: Reply| {
        reply.body[800_000] ^= 1;
        reply
    };
    let longer = |reply: Reply| Reply { body: [reply.body, vec![0; 9]].concat(), ..reply };
    let endless = |reply: Reply| Reply { body: vec![1; 50_000_000], chunked: true, ..reply };
    let page = |_| Reply {
        status: 200,
        headers: vec![("Content-Type", "text/html; charset=utf-8".into())],
        body: b"<html>log in".to_vec(),
        ..Reply::default()
    };
    let short = |reply: Reply| Reply { body: reply.body[..99].to_vec(), ..reply };
    for (twist, expected) in [
        (Box::new(flipped) as Box<dyn Fn(Reply) -> Reply + Send>, "damaged and was removed: expected the SHA-256"),
        (Box::new(longer), "expected 1600001 bytes from 0 on, as the hub promised, the server announces 1600010"),
        (Box::new(short), "the server announces 99"),
        (Box::new(endless), "sends more than the 1600001 bytes"),
        (Box::new(page), "sends a web page in its place"),
        (Box::new(|reply| Reply { status: 204, body: vec![], ..reply }), "204"),
        (Box::new(|_| Reply { status: 404, ..Reply::default() }), "404"),
    ] {
        let world = World::new(noise());
        world.twist(twist);
        let machine = Machine::new(&world.hub.address);
        let message = machine.fail();
        says(&message, &[expected]);
        assert!(!message.contains("ecret"), "a signature is nobody's business: {message}");
        assert_eq!(world.storage.requests().len(), 1, "no second attempt: {expected}");
        assert!(!machine.repository().join("blobs").join(&world.sha256).exists());
        assert!(!machine.repository().join("snapshots").exists());
        assert!(machine.partial(&world.sha256).metadata().map_or(0, |m| m.len()) <= 1_600_001);
        // The files that stay do not hinder the next run.
        machine.fetch().unwrap_or_else(|e| panic!("after {expected}: {e}"));
    }
}

#[test]
fn refusals_say_what_to_do() {
    let status = |status| move |_: &_, _| Reply { status, ..Reply::default() };
    for (code, token, expected) in [
        (401, None, &["not open to all (401", "accept its terms", "HF_TOKEN"][..]),
        (403, Some("hf_x"), &["closed to this token (403", "HF_TOKEN is still valid"]),
        (404, None, &["404", "HF_ENDPOINT", "/resolve/main/MedDINOv3-B-CT3M.pth"]),
        (418, None, &["418"]),
    ] {
        let world = World::with(noise(), status(code));
        let mut machine = Machine::new(&world.hub.address);
        if let Some(token) = token {
            machine = machine.set("HF_TOKEN", token);
        }
        says(&machine.fail(), expected);
        assert_eq!(world.hub.requests().len(), 1);
    }
    for code in [429, 500, 503] {
        let world = World::with(noise(), status(code));
        says(&Machine::new(&world.hub.address).fail(), &[&code.to_string(), "4 attempts"]);
        assert_eq!(world.hub.requests().len(), 4);
    }
    // A signed address that has expired: the hub gives a new one.
    let world = World::new(noise());
    world.twist(|_| Reply { status: 403, ..Reply::default() });
    Machine::new(&world.hub.address).fetch().expect("fetched");
    assert_eq!(world.hub.requests().len(), 2);
}

#[test]
fn a_server_that_does_not_answer_like_a_hub_is_refused() {
    let named = |name: &'static str, value: &'static str| {
        move |_: &_, mut reply: Reply| {
            reply.headers.iter_mut().filter(|(n, _)| *n == name).for_each(|(_, v)| *v = value.into());
            reply
        }
    };
    let worlds = [
        World::with(noise(), |_, _| Reply { status: 200, headers: vec![("Content-Type", "text/html".into())], ..Reply::default() }),
        World::with(noise(), named("X-Repo-Commit", "../../../../../../../../../../../../../../etc")),
        World::with(noise(), named("X-Repo-Commit", "main")),
        World::with(noise(), named("X-Linked-Etag", "\"../../../../evil\"")),
        World::with(noise(), named("X-Linked-Etag", "\"0123456789abcdef0123456789abcdef01234567\"")),
        World::with(noise(), named("X-Linked-Size", "-1")),
        World::with(noise(), named("X-Linked-Size", "0")),
    ];
    for world in worlds {
        let machine = Machine::new(&world.hub.address);
        says(&machine.fail(), &["unlike a hub", "X-Repo-Commit", "HF_ENDPOINT"]);
        assert!(!machine.path(".cache").exists(), "nothing is made");
    }
    let nobody = Machine::new("http://127.0.0.1:1");
    let message = nobody.fail();
    says(&message, &["http://127.0.0.1:1", "cannot be reached", "4 attempts"]);
    assert!(!message.contains("resumes"), "nothing has come: {message}");
    assert_eq!(nobody.cause(), Some(ErrorKind::ConnectionRefused));
}

#[test]
fn redirects_are_followed_and_only_the_hub_gets_the_token() {
    let to = |location: &str| Reply { status: 307, headers: vec![("Location", location.into())], ..Reply::default() };
    // The hub redirects to an absolute path, then to a relative path, then to the storage.
    let world = World::with(noise(), move |request, reply| match request.target.as_str() {
        "/new/name?a=b" => to("name2?c=d"),
        "/new/name2?c=d" => reply,
        _ => to("/new/name?a=b"),
    });
    // The storage redirects to itself, by an address without a scheme.
    let storage = world.storage.address.trim_start_matches("http:").to_string();
    world.twist(move |_| to(&format!("{storage}/elsewhere")));
    let machine = Machine::new(&world.hub.address).set("HF_TOKEN", " hf_secret\n");
    machine.leave_partial(&world.sha256, &noise()[..10]);
    let path = machine.fetch().expect("fetched");
    assert_eq!(fs::read(path).expect("read"), noise());
    let requests = world.hub.requests();
    let targets: Vec<_> = requests.iter().map(|r| r.target.as_str()).collect();
    let first = "/ricklisz123/MedDINOv3-ViTB-16-CT-3M/resolve/main/MedDINOv3-B-CT3M.pth";
    assert_eq!(targets, [first, "/new/name?a=b", "/new/name2?c=d"]);
    assert!(requests.iter().all(|r| r.header("authorization") == Some("Bearer hf_secret")), "{requests:?}");
    let stored = world.storage.requests();
    assert_eq!(stored.len(), 2);
    assert_eq!(stored[1].target, "/elsewhere");
    assert!(stored.iter().all(|r| r.header("authorization").is_none()), "the token is for the hub alone: {stored:?}");
    assert_eq!(stored[1].header("range"), Some("bytes=10-"), "the range goes on");
}

#[test]
fn circular_and_invalid_redirects_are_errors() {
    let world = World::with(noise(), |_, _| Reply { status: 302, headers: vec![("Location", "/again".into())], ..Reply::default() });
    says(&Machine::new(&world.hub.address).fail(), &["from redirect to redirect"]);
    assert_eq!(world.hub.requests().len(), 21);
    let world =
        World::with(noise(), |_, _| Reply { status: 302, headers: vec![("Location", "http://[nonsense/".into())], ..Reply::default() });
    says(&Machine::new(&world.hub.address).fail(), &["redirects to \"http://[nonsense/\", which is no address"]);
}
