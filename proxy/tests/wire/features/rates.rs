//! How many requests are served in a time.

use super::*;
use crate::limits::metric;

/// Sends so many requests, each on a connection of its own, and gives the answers.
async fn sent(plane: &Plane, count: usize, fields: &str) -> Vec<String> {
    let request = get_with("/", &format!("{fields}Connection: close\r\n"));
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = plane.connect().await;
        client.send(&request).await;
        clients.push(client);
    }
    let mut answers = Vec::new();
    for mut client in clients {
        answers.push(client.read_to_end().await);
    }
    answers
}

fn served(answers: &[String]) -> usize {
    answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 200")).count()
}

#[tokio::test]
async fn a_route_serves_its_burst_over_all_workers_and_tells_the_others_when_to_come() {
    let options = Options { threads: 2, ..Options::default() };
    let (mut plane, origin) = shop_with(options, &[("fairway.rate_limit", "1/h burst 7")]).await;
    origin.serve("hello");
    let other = Origin::new().await.serve("hello");
    let answers = sent(&plane, 20, "").await;
    assert_eq!(served(&answers), 7);
    let refused = answers.iter().find(|answer| !answer.starts_with("HTTP/1.1 200")).expect("there are some");
    assert!(refused.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{refused}");
    assert!(refused.contains("{\"type\":\"rate-limited\","), "{refused}");
    let wait: u64 = field(refused, "retry-after").and_then(|wait| wait.parse().ok()).expect("seconds");
    assert!((3500..=3600).contains(&wait), "{refused}");
    // Counted as soon as the answer is on its way.
    within("the count", async {
        while metric(&plane, "fairway_requests_total", &[("reason", "rate-limited")]) != 13.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Another instance and another feature make the route's entry anew; what was taken is taken.
    plane.change(|cluster| {
        cluster.add(other, "shop.test", &[("fairway.headers.response", "set X-A: b")]);
    });
    assert_eq!(served(&sent(&plane, 3, "").await), 0);
    assert!(plane.explain("shop.test").contains("rate_limit: 1/h burst 7"));
}

#[tokio::test]
async fn each_client_has_its_own_and_a_refused_one_keeps_its_connection() {
    let origin = Origin::new().await;
    let options = Options { trusted: vec!["127.0.0.0/8"], ..Options::default() };
    let labels = [("fairway.rate_limit.client", "1/h burst 2")];
    let plane = Plane::with(options, |cluster| {
        cluster.add(origin.address, "shop.test", &labels);
    });
    origin.serve("hello");
    for client in ["192.0.2.1", "2001:db8::1"] {
        let answers = sent(&plane, 5, &format!("X-Forwarded-For: {client}\r\n")).await;
        assert_eq!(served(&answers), 2, "{client}");
        assert!(answers.iter().any(|answer| answer.contains("\"client-rate-limited\"")));
    }
    assert_eq!(served(&sent(&plane, 1, "X-Forwarded-For: 2001:db8::ffff\r\n").await), 0, "the same network");
    let mut client = plane.connect().await;
    for want in ["200", "200", "429", "429"] {
        client.send(get_with("/", "X-Forwarded-For: 192.0.2.9\r\n")).await;
        let head = client.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {want}")), "{head}");
        let length = field(&head, "content-length").and_then(|length| length.parse().ok()).expect("a length");
        client.read_exactly(length).await;
    }
}

#[tokio::test]
async fn who_is_not_served_at_all_takes_nothing_from_the_others_and_passwords_are_looked_at_last() {
    let labels = [
        ("fairway.allow", "192.0.2.0/24"),
        ("fairway.rate_limit", "1/h burst 2"),
        ("fairway.auth.basic", "a:{SHA256}n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="),
    ];
    let options = Options { trusted: vec!["127.0.0.0/8"], ..Options::default() };
    let (plane, _origin) = shop_with(options, &labels).await;
    let stranger = sent(&plane, 5, "X-Forwarded-For: 198.51.100.1\r\n").await;
    assert!(stranger.iter().all(|answer| answer.starts_with("HTTP/1.1 403")));
    let statuses: Vec<String> = sent(&plane, 4, "X-Forwarded-For: 192.0.2.1\r\n").await;
    let count = |status: &str| statuses.iter().filter(|answer| answer.contains(status)).count();
    assert_eq!((count("HTTP/1.1 401"), count("HTTP/1.1 429")), (2, 2));
}
