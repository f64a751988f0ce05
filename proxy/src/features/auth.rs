//! Who may log in by name and password (`fairway.auth.*`; RFC 7617).
//!
//! A hash is made to be slow: what was found good is remembered for a while, under a key that only this process can make, and
//! what must be computed is computed elsewhere, a few at a time (see [`Checks`]). Names that do not exist cost what others
//! cost, so that nobody learns which do.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use fairway_config::labels::features as asked;
use fairway_config::labels::features::PasswordHash;
use tokio::sync::Semaphore;

use crate::h1::syntax::trim;

/// How long a password that was found good needs no second look.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Most passwords remembered for one route.
const REMEMBERED_MAX: usize = 1024;
/// Longest credentials that are looked at, in octets of base64.
const CREDENTIALS_MAX: usize = 4096;
/// Most checks that wait for their turn.
const WAITING_MAX: usize = 128;

/// The users of one route.
#[derive(Debug)]
pub(crate) struct BasicAuth {
    users: Arc<Users>,
    /// The value of `WWW-Authenticate`.
    challenge: String,
    forward: bool,
}

/// The users, and who of them has logged in.
struct Users {
    hashes: HashMap<Arc<str>, PasswordHash>,
    /// Stands for the hash of a name that does not exist.
    any: Option<PasswordHash>,
    key: hmac::Key,
    remembered: Mutex<HashMap<[u8; 32], Instant>>,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.hashes.len())
    }
}

/// What the fields of a request say about who sends it.
#[derive(Debug)]
pub(crate) enum Look {
    /// A user who has logged in.
    Known,
    /// Nobody.
    Nobody,
    /// Somebody with a password that takes a while to check.
    Check(Check),
}

/// A password that is to be checked.
pub(crate) struct Check {
    users: Arc<Users>,
    hash: PasswordHash,
    /// There is such a user.
    exists: bool,
    password: Vec<u8>,
    mark: [u8; 32],
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Check")
    }
}

impl BasicAuth {
    pub(crate) fn new(auth: &asked::BasicAuth) -> Self {
        let hashes: HashMap<_, _> =
            auth.users.iter().map(|user| (user.name.clone(), user.password.clone())).collect();
        // The slowest kind, whose time would tell most.
        let slow = auth.users.iter().find(|user| matches!(user.password, PasswordHash::Bcrypt(_)));
        let any = slow.or(auth.users.first()).map(|user| user.password.clone());
        let secret: [u8; 32] = std::array::from_fn(|_| fastrand::u8(..));
        let mut random = [0; 32];
        // Without randomness of the system the key is less than secret, and still none that was ever written down.
        let secret = if aws_lc_rs::rand::fill(&mut random).is_ok() { random } else { secret };
        let users = Users {
            hashes,
            any,
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            remembered: Mutex::default(),
        };
        Self {
            users: Arc::new(users),
            challenge: format!("Basic realm=\"{}\", charset=\"UTF-8\"", auth.realm),
            forward: auth.forward,
        }
    }

    /// The value of `WWW-Authenticate`.
    pub(crate) fn challenge(&self) -> &str {
        &self.challenge
    }

    /// Whether the instance gets `Authorization`.
    pub(crate) fn forwards(&self) -> bool {
        self.forward
    }

    /// Who sends a request with these values of `Authorization`. More than one is nobody: an instance might take the other.
    pub(crate) fn look<'a>(&self, mut authorization: impl Iterator<Item = &'a [u8]>, now: Instant) -> Look {
        let (Some(value), None) = (authorization.next(), authorization.next()) else { return Look::Nobody };
        let Some((name, password)) = credentials(value) else { return Look::Nobody };
        let mark = self.users.mark(&name, &password);
        if self.users.remembers(&mark, now) {
            return Look::Known;
        }
        let own = self.users.hashes.get(&*name).cloned();
        let exists = own.is_some();
        let Some(hash) = own.or_else(|| self.users.any.clone()) else { return Look::Nobody };
        Look::Check(Check { users: self.users.clone(), hash, exists, password, mark })
    }
}

impl Users {
    /// What this process calls these credentials.
    fn mark(&self, name: &str, password: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(name.as_bytes());
        context.update(b":");
        context.update(password);
        let mut mark = [0; 32];
        mark.copy_from_slice(context.sign().as_ref());
        mark
    }

    fn remembers(&self, mark: &[u8; 32], now: Instant) -> bool {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(mark).is_some_and(|until| now < *until)
    }

    fn remember(&self, mark: [u8; 32], now: Instant) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, until| now < *until);
        }
        if remembered.len() >= REMEMBERED_MAX
            && let Some(oldest) = remembered.iter().min_by_key(|(_, until)| **until).map(|(mark, _)| *mark)
        {
            remembered.remove(&oldest);
        }
        remembered.insert(mark, now + REMEMBERED);
    }
}

/// Name and password of `Basic` and base64; the name is UTF-8.
fn credentials(value: &[u8]) -> Option<(String, Vec<u8>)> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let (scheme, rest) = value.split_at_checked(6)?;
    let token = trim(rest);
    if !scheme.eq_ignore_ascii_case(b"basic ") || token.len() > CREDENTIALS_MAX {
        return None;
    }
    let octets = LENIENT.decode(token).ok()?;
    let colon = octets.iter().position(|b| *b == b':')?;
    let name = String::from_utf8(octets[..colon].to_vec()).ok()?;
    Some((name, octets[colon + 1..].to_vec()))
}

impl Check {
    /// Whether it takes so long that it must not be done on a worker.
    fn is_slow(&self) -> bool {
        matches!(self.hash, PasswordHash::Bcrypt(_))
    }

    /// Whether the password is right; remembered if it is. Takes as long for names that do not exist.
    fn run(&self) -> bool {
        let is_right = matches(&self.hash, &self.password) & self.exists;
        if is_right {
            self.users.remember(self.mark, Instant::now());
        }
        is_right
    }
}

fn matches(hash: &PasswordHash, password: &[u8]) -> bool {
    let digests = |algorithm, salt: &[u8], want: &[u8]| {
        let mut context = digest::Context::new(algorithm);
        context.update(password);
        context.update(salt);
        verify_slices_are_equal(context.finish().as_ref(), want).is_ok()
    };
    match hash {
        // Octets beyond the 72nd have no part in bcrypt, and a NUL would end the password early for some.
        PasswordHash::Bcrypt(_) if password.contains(&0) => false,
        PasswordHash::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
        PasswordHash::Sha256(want, salt) => digests(&digest::SHA256, salt, want),
        PasswordHash::Sha512(want, salt) => digests(&digest::SHA512, salt, want),
    }
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    /// The password is right.
    Right,
    /// It is wrong, or there is no such user.
    Wrong,
    /// Too many wait for their turn.
    Busy,
}

/// Where slow checks are made: at most one for two cores of the machine at a time, so that guessing costs the guesser more
/// than it costs others.
struct Checks {
    turns: Semaphore,
    waiting: AtomicUsize,
}

static CHECKS: LazyLock<Checks> = LazyLock::new(|| {
    let cores = available_parallelism().map_or(2, usize::from);
    Checks { turns: Semaphore::new((cores / 2).max(1)), waiting: AtomicUsize::new(0) }
});

/// Counts one that waits, whichever way it ends.
struct Waiting(&'static AtomicUsize);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Makes a check, away from the worker if it is slow. May be dropped: a check that has begun ends by itself.
pub(crate) async fn check(check: Check) -> Checked {
    let verdict = |right| if right { Checked::Right } else { Checked::Wrong };
    if !check.is_slow() {
        return verdict(check.run());
    }
    let checks = &*CHECKS;
    let before = checks.waiting.fetch_add(1, Ordering::Relaxed);
    let waiting = Waiting(&checks.waiting);
    if before >= WAITING_MAX {
        return Checked::Busy;
    }
    let Ok(turn) = checks.turns.acquire().await else { return Checked::Busy };
    drop(waiting);
    // The same client may have sent several requests at once, and one of them has been checked by now.
    if check.users.remembers(&check.mark, Instant::now()) {
        return Checked::Right;
    }
    let checked = tokio::task::spawn_blocking(move || {
        let right = check.run();
        drop(turn);
        right
    });
    verdict(checked.await.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use fairway_config::labels;

    use super::*;

    /// A vector of the first implementation: the password is `U*U`.
    const U_STAR_U: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

    fn sha(password: &str, salt: &[u8]) -> String {
        let octets = [password.as_bytes(), salt].concat();
        let digest = digest::digest(&digest::SHA256, &octets);
        let kind = if salt.is_empty() { "{SHA256}" } else { "{SSHA256}" };
        format!("{kind}{}", STANDARD.encode([digest.as_ref(), salt].concat()))
    }

    fn sha512(password: &str) -> String {
        format!(
            "{{SHA512}}{}",
            STANDARD.encode(digest::digest(&digest::SHA512, password.as_bytes()).as_ref())
        )
    }

    fn auth(users: &str) -> BasicAuth {
        let parsed = labels::parse([("fairway.auth.basic", users), ("fairway.auth.realm", "Staff only")]);
        BasicAuth::new(parsed.spec.features.auth.as_deref().expect("users"))
    }

    fn basic(credentials: &str) -> Vec<u8> {
        format!("Basic {}", STANDARD.encode(credentials)).into_bytes()
    }

    async fn login(auth: &BasicAuth, credentials: &str) -> Checked {
        match auth.look([&*basic(credentials)].into_iter(), Instant::now()) {
            Look::Known => Checked::Right,
            Look::Nobody => Checked::Wrong,
            Look::Check(one) => check(one).await,
        }
    }

    #[tokio::test]
    async fn a_right_password_is_found_with_every_kind_of_hash() {
        let users = format!(
            "alice:{U_STAR_U}\nbob:{}\ncarol:{}\ndave:{}\nerin:{}",
            sha("secret", b""),
            sha("secret", b"salt"),
            sha512("secret"),
            bcrypt::hash("pass:word", 4).expect("a hash"),
        );
        let auth = auth(&users);
        assert_eq!(auth.challenge(), "Basic realm=\"Staff only\", charset=\"UTF-8\"");
        for (credentials, want) in [
            ("alice:U*U", Checked::Right),
            ("alice:U*V", Checked::Wrong),
            ("alice:", Checked::Wrong),
            ("bob:secret", Checked::Right),
            ("bob:secretsalt", Checked::Wrong),
            ("carol:secret", Checked::Right),
            ("dave:secret", Checked::Right),
            ("erin:pass:word", Checked::Right),
            ("erin:pass", Checked::Wrong),
            ("mallory:U*U", Checked::Wrong),
            ("Alice:U*U", Checked::Wrong),
            (":U*U", Checked::Wrong),
        ] {
            assert_eq!(login(&auth, credentials).await, want, "{credentials}");
        }
    }

    #[tokio::test]
    async fn what_is_no_basic_credential_is_nobody() {
        let auth = auth(&format!("bob:{}", sha("secret", b"")));
        let good = basic("bob:secret");
        let long = [b"Basic ".to_vec(), vec![b'A'; CREDENTIALS_MAX + 4]].concat();
        let none: [&[u8]; 8] = [
            b"",
            b"Basic",
            b"Basic !!!",
            b"Bearer Ym9iOnNlY3JldA==",
            b"Basic Ym9i", // no colon
            b"Basic /////w==",
            b"BasicYm9iOnNlY3JldA==",
            &long,
        ];
        for value in none {
            assert!(matches!(auth.look([value].into_iter(), Instant::now()), Look::Nobody), "{value:?}");
        }
        assert!(matches!(auth.look(std::iter::empty(), Instant::now()), Look::Nobody));
        assert!(
            matches!(auth.look([&*good, &*good].into_iter(), Instant::now()), Look::Nobody),
            "two fields"
        );
        for value in ["basic Ym9iOnNlY3JldA==", "BASIC   Ym9iOnNlY3JldA"] {
            assert!(
                matches!(auth.look([value.as_bytes()].into_iter(), Instant::now()), Look::Check(_)),
                "{value}"
            );
        }
    }

    #[tokio::test]
    async fn without_a_user_nobody_logs_in() {
        let auth = auth("nobody");
        assert_eq!(login(&auth, "a:b").await, Checked::Wrong);
    }

    #[tokio::test]
    async fn a_good_password_is_remembered_for_a_while_and_a_bad_one_never() {
        let auth = auth(&format!("alice:{U_STAR_U}"));
        let now = Instant::now();
        let look = |credentials: &str, at| auth.look([&*basic(credentials)].into_iter(), at);
        assert!(matches!(look("alice:U*U", now), Look::Check(_)));
        assert_eq!(login(&auth, "alice:bad").await, Checked::Wrong);
        assert!(matches!(look("alice:bad", now), Look::Check(_)));
        assert_eq!(login(&auth, "alice:U*U").await, Checked::Right);
        assert!(matches!(look("alice:U*U", Instant::now()), Look::Known));
        assert!(matches!(look("alice:U*U", Instant::now() + REMEMBERED), Look::Check(_)));
        let other = self::auth(&format!("alice:{U_STAR_U}"));
        let mark = |auth: &BasicAuth| auth.users.mark("alice", b"U*U");
        assert_ne!(mark(&auth), mark(&other), "a mark of one route is none of another");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let auth = auth("nobody");
        let now = Instant::now();
        for number in 0..REMEMBERED_MAX * 2 {
            auth.users.remember(
                auth.users.mark("a", &number.to_be_bytes()),
                now + Duration::from_millis(number as u64),
            );
        }
        let remembered = auth.users.remembered.lock().expect("nobody panicked");
        assert_eq!(remembered.len(), REMEMBERED_MAX);
        drop(remembered);
        let last = auth.users.mark("a", &(REMEMBERED_MAX * 2 - 1).to_be_bytes());
        assert!(auth.users.remembers(&last, now));
    }

    #[tokio::test]
    async fn slow_checks_leave_the_worker_free_and_their_queue_is_bounded() {
        // This runtime has one thread: what blocks it lets nobody else run.
        let auth = auth(&format!("alice:{}", bcrypt::hash("x", 8).expect("a hash")));
        let attempts = (0..WAITING_MAX + 40).map(|number| login_later(&auth, &format!("alice:{number}")));
        let mut set = tokio::task::JoinSet::new();
        attempts.for_each(|one| drop(set.spawn(one)));
        let mut free = 0;
        let mut busy = 0;
        loop {
            tokio::select! {
                biased;
                done = set.join_next() => match done {
                    Some(done) => busy += usize::from(done.expect("it ends") == Checked::Busy),
                    None => break,
                },
                () = tokio::task::yield_now() => free += 1,
            }
        }
        assert!(busy > 0 && busy < 41, "{busy} were turned away");
        assert!(free > 100, "the thread was free {free} times");
    }

    async fn run(look: Look) -> Checked {
        match look {
            Look::Check(one) => check(one).await,
            other => panic!("{other:?}"),
        }
    }

    fn login_later(auth: &BasicAuth, credentials: &str) -> impl Future<Output = Checked> + use<> {
        run(auth.look([&*basic(credentials)].into_iter(), Instant::now()))
    }
}
