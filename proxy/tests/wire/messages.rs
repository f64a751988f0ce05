//! Requests and answers on their way: framing, keep-alive, pipelining, interim answers.

use crate::kit::*;

#[tokio::test]
async fn a_request_goes_to_the_instance_and_its_answer_comes_back() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send(get("/a%2fb?c=d")).await;
    let mut instance = origin.accept().await;
    let head = instance.head().await;
    assert!(head.starts_with("GET /a%2fb?c=d HTTP/1.1\r\nHost: shop.test\r\n"), "{head}");
    assert_eq!(field(&head, "X-Forwarded-For"), Some("127.0.0.1"), "{head}");
    assert_eq!(field(&head, "Via"), Some("1.1 edge"), "{head}");
    instance.send(ok("hello")).await;
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(field(&answer, "Connection"), None);
    assert_eq!(client.read_exactly(5).await, b"hello");
}
