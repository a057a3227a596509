use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

fn account(name: &str) -> BanSubject {
    BanSubject::account(name).expect(name)
}

fn ban(moderation: &Moderation, subject: BanSubject, seconds: u32, now: u64) -> Result<(), OrderRefusal> {
    let address = None;
    order(moderation, &NewBan { subject, address, seconds, reason: Some("spam".into()) }, now)
}

fn order(moderation: &Moderation, ban: &NewBan, now: u64) -> Result<(), OrderRefusal> {
    moderation.ban(ban, &admin(), now).map(|change| assert_eq!(moderation.apply(&change, now), 0))
}

fn unban(moderation: &Moderation, subject: &BanSubject, now: u64) -> Result<(), OrderRefusal> {
    moderation.unban(subject, now).map(|change| assert_eq!(moderation.apply(&change, now), 0))
}

fn mute(
    moderation: &Moderation,
    user: ModeratedUser<'_>,
    seconds: u32,
    now: u64,
) -> Result<Muted, OrderRefusal> {
    let (muted, change) = moderation.mute(user, seconds, now)?;
    assert_eq!(moderation.apply(&change, now), 0);
    Ok(muted)
}

fn unmute(moderation: &Moderation, user: ModeratedUser<'_>, now: u64) -> Vec<IpAddr> {
    let (lifted, change) = moderation.unmute(user, now);
    assert_eq!(moderation.apply(&change, now), 0);
    lifted
}

fn admin() -> Admin {
    Admin::Backend { key: "shop".into() }
}

fn user(account: Option<&str>, id: u64, address: &str) -> (Option<String>, UserId, IpAddr) {
    (account.map(str::to_owned), UserId::from_wire(id).expect("an id"), ip(address))
}

fn of(user: &(Option<String>, UserId, IpAddr)) -> ModeratedUser<'_> {
    ModeratedUser { account: user.0.as_deref(), owner: None, user: user.1, address: user.2 }
}

#[test]
fn an_account_is_refused_from_everywhere_and_an_address_to_those_without_an_account() {
    let moderation = Moderation::default();
    ban(&moderation, account("ann"), 0, 5).unwrap();
    ban(&moderation, BanSubject::address(ip("2001:db8::1")), 10, 5).unwrap();
    for (account, address, is_banned) in [
        (Some("ann"), "192.0.2.1", true),
        (Some("ann"), "2001:db8::2", true),
        (Some("Ann"), "192.0.2.1", false),
        (Some("ben"), "2001:db8::1", false),
        (None, "2001:db8::2", true),
        (None, "2001:db8:0:1::1", false),
        (None, "192.0.2.1", false),
    ] {
        assert_eq!(moderation.is_banned(account, ip(address), 15), is_banned, "{account:?} {address}");
    }
    assert!(!moderation.is_banned(None, ip("2001:db8::1"), 16));
    assert!(moderation.is_banned(Some("ann"), ip("192.0.2.1"), u64::MAX));
    assert_eq!(unban(&moderation, &account("ann"), 16), Ok(()));
    assert!(!moderation.is_banned(Some("ann"), ip("192.0.2.1"), 16));
    assert_eq!(unban(&moderation, &account("ann"), 16), Err(OrderRefusal::UnknownBan));
    let ended = BanSubject::address(ip("2001:db8::1"));
    assert_eq!(unban(&moderation, &ended, 16), Err(OrderRefusal::UnknownBan));
}

#[test]
fn a_trusted_proxy_is_not_banned_even_with_its_neighbours() {
    let proxies = ["2001:db8::5", "2001:db8:1::", "10.0.0.0/8"];
    let moderation = Moderation::new(proxies.map(|range| range.parse().unwrap()).to_vec());
    for (address, outcome) in [
        ("::ffff:10.1.1.1", Err(OrderRefusal::TrustedProxy)),
        ("2001:db8::5", Err(OrderRefusal::TrustedProxy)),
        ("2001:db8::6", Ok(())),
        ("2001:db8:1::", Err(OrderRefusal::TrustedProxy)),
        ("2001:db8:1::1", Ok(())),
    ] {
        let address = ip(address);
        let subject = BanSubject::address(address);
        let ban = NewBan { subject, address: Some(address), seconds: 0, reason: None };
        assert_eq!(order(&moderation, &ban, 0), outcome, "{address}");
        assert_eq!(moderation.is_banned(None, address, 1), outcome.is_ok(), "{address}");
    }
    assert!(!moderation.is_banned(None, ip("2001:db8::5"), 1), "the proxy itself");
    let guest = user(None, 1, "10.1.1.1");
    mute(&moderation, of(&guest), 10, 0).unwrap();
    assert_eq!(moderation.mute_of(of(&guest), 1).until, 10);
    assert_eq!(moderation.mute_of(of(&user(None, 2, "10.1.1.1")), 1).until, 0);
}

#[test]
fn bans_are_listed_by_account_and_then_by_address() {
    let moderation = Moderation::default();
    for subject in [
        BanSubject::address(ip("2001:db8::1")),
        account("ben"),
        BanSubject::address(ip("203.0.113.1")),
        BanSubject::address(ip("9.0.0.1")),
        account("Zoë"),
    ] {
        ban(&moderation, subject, 0, 1).unwrap();
    }
    ban(&moderation, account("ended"), 1, 1).unwrap();
    let page = |offset, limit| moderation.bans(Page { offset, limit }, 3);
    let names =
        |page: &BansPage| page.listed.iter().map(|(subject, _)| subject.to_string()).collect::<Vec<_>>();
    let all = ["Zoë", "ben", "9.0.0.1", "203.0.113.1", "2001:db8::"];
    assert_eq!((names(&page(0, usize::MAX)), page(0, 0).total), (all.map(str::to_owned).to_vec(), 5));
    assert_eq!(names(&page(1, 2)), all[1..3]);
    assert_eq!(page(9, 2), BansPage { listed: Vec::new(), total: 5 });
}

#[test]
fn a_long_reason_is_shortened_in_the_list() {
    let moderation = Moderation::default();
    for (length, kept) in [(200, 200), (201, 201)] {
        let reason = Some("é".repeat(length));
        let ban = NewBan { subject: account("ann"), address: None, seconds: 0, reason };
        order(&moderation, &ban, 0).unwrap();
        let page = moderation.bans(Page { offset: 0, limit: 1 }, 0);
        assert_eq!(page.listed[0].1.reason.chars().count(), kept);
        assert_eq!(page.listed[0].1.reason.ends_with('…'), length > 200);
    }
}

#[test]
fn there_are_so_many_bans_and_no_more() {
    let moderation = Moderation::default();
    for n in 0..TERMS_MAX {
        ban(&moderation, account(&n.to_string()), 60, 0).unwrap();
    }
    assert_eq!(ban(&moderation, account("one more"), 60, 60), Err(OrderRefusal::TooManyBans));
    ban(&moderation, account("7"), 0, 60).unwrap();
    assert_eq!(moderation.bans(Page { offset: 0, limit: usize::MAX }, 60).listed.len(), LISTED_MAX);
    ban(&moderation, account("one more"), 60, 61).unwrap();
    assert_eq!(moderation.bans(Page { offset: 0, limit: 9 }, 61).total, 2, "those that have ended are gone");
}

#[test]
fn an_account_is_muted_with_every_session_and_nobody_else() {
    let moderation = Moderation::default();
    let ann = user(Some("ann"), 1, "192.0.2.1");
    assert_eq!(mute(&moderation, of(&ann), 10, 5), Ok(Muted { until: 15, lifted: None }));
    for (other, until) in [
        (user(Some("ann"), 2, "192.0.2.2"), 15),
        (user(Some("ben"), 3, "192.0.2.1"), 0),
        (user(None, 4, "192.0.2.1"), 0),
    ] {
        let mute = moderation.mute_of(of(&other), 15);
        assert_eq!(mute, Mute { until, is_of_address: false }, "{other:?}");
        assert_eq!((mute.holds(15), mute.holds(16)), (until == 15, false));
    }
    assert_eq!(unmute(&moderation, of(&user(Some("ann"), 2, "192.0.2.2")), 6), [] as [IpAddr; 0]);
    assert_eq!(moderation.mute_of(of(&ann), 6).until, 0);
}

#[test]
fn a_guest_is_muted_with_its_session_and_who_comes_from_its_address() {
    let moderation = Moderation::default();
    let guest = user(None, 1, "2001:db8::1");
    mute(&moderation, of(&guest), 10, 5).unwrap();
    for (other, until, is_of_address) in [
        (user(None, 1, "192.0.2.9"), 15, false),
        (user(Some("ann"), 1, "192.0.2.9"), 15, false),
        (user(None, 2, "2001:db8::2"), 15, true),
        (user(None, 2, "2001:db8:0:1::1"), 0, false),
        (user(Some("ann"), 2, "2001:db8::1"), 0, false),
    ] {
        assert_eq!(moderation.mute_of(of(&other), 6), Mute { until, is_of_address }, "{other:?}");
    }
    let other = user(Some("ben"), 8, "2001:db8::1");
    assert_eq!(unmute(&moderation, of(&other), 6), [] as [IpAddr; 0], "not its own mute");
    assert_eq!(unmute(&moderation, of(&guest), 6), [ip("2001:db8::")]);
    assert_eq!(moderation.mute_of(of(&user(None, 2, "2001:db8::2")), 6), Mute::default());
    assert_eq!(unmute(&moderation, of(&guest), 6), [] as [IpAddr; 0]);
}

#[test]
fn who_has_signed_in_since_is_unmuted_with_its_address() {
    let moderation = Moderation::default();
    mute(&moderation, of(&user(None, 1, "192.0.2.1")), 10, 5).unwrap();
    let signed_in = user(Some("ann"), 1, "192.0.2.1");
    mute(&moderation, of(&signed_in), 20, 5).unwrap();
    assert_eq!(unmute(&moderation, of(&signed_in), 6), [ip("192.0.2.1")]);
    assert_eq!(moderation.mute_of(of(&signed_in), 6), Mute::default());
}

#[test]
fn a_session_of_a_muted_account_is_muted_as_long_as_the_account() {
    let moderation = Moderation::default();
    let resumed = user(None, 7, "192.0.2.1");
    let resumed = ModeratedUser { owner: Some("ann"), ..of(&resumed) };
    let until = || moderation.mute_of(resumed, 6).until;
    let ann = user(Some("ann"), 8, "192.0.2.2");
    mute(&moderation, of(&ann), 10, 5).unwrap();
    assert_eq!((until(), moderation.stored().mutes.len()), (15, 1));
    // Another account is not hers.
    assert_eq!(moderation.mute_of(ModeratedUser { account: Some("ben"), ..resumed }, 6).until, 0);
    let _ = unmute(&moderation, of(&ann), 6);
    assert_eq!(until(), 0);
    mute(&moderation, of(&ann), 10, 5).unwrap();
    let _ = unmute(&moderation, resumed, 6);
    assert_eq!(moderation.mute_of(of(&ann), 6).until, 0);
}

#[test]
fn an_address_is_unmuted_with_the_session_with_which_it_was_muted() {
    let moderation = Moderation::default();
    let is_muted = |address: &str| moderation.is_address_muted(ip(address), 6);
    mute(&moderation, of(&user(None, 1, "192.0.2.1")), 1_000, 5).unwrap();
    let moved = user(None, 1, "192.0.2.9");
    assert_eq!(unmute(&moderation, of(&moved), 6), [ip("192.0.2.1")]);
    // Muted again where it is now, it takes the mute of its address along.
    mute(&moderation, of(&user(None, 1, "192.0.2.1")), 1_000, 5).unwrap();
    let again = mute(&moderation, of(&moved), 10, 5);
    assert_eq!(again, Ok(Muted { until: 15, lifted: Some(ip("192.0.2.1")) }));
    assert!(is_muted("192.0.2.9") && !is_muted("192.0.2.1"));
}

#[test]
fn of_two_mutes_of_an_address_the_longer_one_stays() {
    let moderation = Moderation::default();
    let until = || moderation.mute_of(of(&user(None, 9, "192.0.2.1")), 6).until;
    let (first, second) = (user(None, 1, "192.0.2.1"), user(None, 2, "192.0.2.1"));
    mute(&moderation, of(&first), 1_000, 5).unwrap();
    mute(&moderation, of(&second), 60, 5).unwrap();
    assert_eq!(until(), 1_005);
    assert_eq!(moderation.mute_of(of(&second), 6).until, 65);
    // The last mute of one user counts.
    mute(&moderation, of(&first), 10, 5).unwrap();
    assert_eq!(until(), 15);
}

#[test]
fn the_seconds_left_are_whole_and_never_none() {
    let mute = Mute { until: 20, is_of_address: false };
    assert_eq!([5, 19, 20].map(|now| mute.seconds_left(now)), [15, 1, 1]);
}
