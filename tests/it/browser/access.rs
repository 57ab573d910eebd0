//! Making a room, its people and its settings, on their pages.

use std::time::Duration;

use serde_json::json;

use super::changes::{EDIT_KEY, ENTER, ESCAPE};
use super::looks::Look;
use crate::support::{Backend, Browser, PASSWORD, Server, eventually};

/// A page loads again within this, when somebody changes who may write.
const RELOADED_WITHIN: Duration = Duration::from_millis(3_500);

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_made_and_its_people_are_chosen() {
    let server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    let made = [
        ("name", "Gardening"),
        ("topic", "What grows"),
        ("access", "open"),
    ];
    ben.post("/rooms", &made).await;
    let ana = Browser::open().await;
    let look = Look::with(&ana);
    ana.signs_up(&server.base, "ana").await;
    ana.sees("Gardening").await;
    look.at("lobby-open-rooms").await;
    ana.clicks(".ways a[href=\"/new\"]").await;
    ana.types("#name", "Tea & cups").await;
    ana.types("#topic", "Leaves").await;
    ana.clicks("input[value=private]").await;
    ana.types("#room", "not an id").await;
    ana.clicks("main .primary").await;
    ana.sees("has only letters").await;
    look.at("room-make-refused").await;
    // The choice is kept.
    let chosen = ana
        .evaluate("document.querySelector(':checked').value")
        .await;
    assert_eq!(chosen, json!("private"));
    ana.evaluate("document.getElementById('room').value = '', 0")
        .await;
    ana.clicks("main .primary").await;
    ana.is_following().await;
    ana.sees("Only people whom you add can enter").await;
    ana.until("document.title === 'Tea & cups – Parlor'").await;

    ana.clicks("#log .welcome a").await;
    ana.types("#username", "nobody").await;
    ana.clicks("main .primary").await;
    ana.sees("Nobody on this server is called so.").await;
    look.at("people-refused").await;
    ana.evaluate("document.getElementById('username').value = '', 0")
        .await;
    ana.types("#username", "ben").await;
    ana.clicks("main .primary").await;
    ana.sees("@ben").await;
    ana.clicks(".people li:nth-child(2) summary").await;
    look.at("people-of-an-owner").await;
    ana.clicks(".people li:nth-child(2) form[action$=role] button")
        .await;
    ana.until("document.querySelectorAll('.tag.owner').length === 2")
        .await;

    // From elsewhere: the room's page says what it is called now.
    let lobby = ben.json("/rooms").await;
    let mut rooms = lobby["rooms"].as_array().unwrap().iter();
    let room = rooms.find(|room| room["name"] == "Tea & cups").unwrap();
    let room = room["room"].as_str().unwrap().to_owned();
    assert!(room.starts_with("tea-cups-"), "{room}");
    ana.goto(&format!("{}/rooms/{room}", server.base)).await;
    ana.is_following().await;
    let settings = format!("/rooms/{room}/settings");
    ben.post(&settings, &[("name", "Coffee <hour>"), ("topic", "Beans")])
        .await;
    ana.until("document.title === 'Coffee <hour> – Parlor'")
        .await;
    ana.until("document.querySelector('.title h1').innerText === 'Coffee <hour>'")
        .await;
    ana.until("document.querySelector('.title .topic').innerText === 'Beans'")
        .await;
    ana.sees("ben named this room “Coffee <hour>”").await;
    look.at("room-with-a-topic").await;
    // A page with something open is not loaded again until it is done with.
    ana.says("mine").await;
    ana.shows(&["mine"]).await;
    ana.types("#composer-text", EDIT_KEY).await;
    ana.until("document.activeElement.value === 'mine'").await;
    ana.evaluate("document.activeElement.value = 'half typed', 0")
        .await;
    ben.post(&settings, &[("archived", "1")]).await;
    ana.sees("archived this room").await;
    tokio::time::sleep(RELOADED_WITHIN).await;
    let typed = "document.querySelector('.editing textarea')?.value";
    assert_eq!(ana.evaluate(typed).await, json!("half typed"));
    ana.types(".editing textarea", ESCAPE).await;
    ana.sees("This room is archived.").await;
    ana.is_following().await;
    look.at("room-archived").await;
    ben.post(&settings, &[("archived", "0")]).await;
    ana.until("!document.body.classList.contains('read-only')")
        .await;

    ana.goto(&format!("{}{settings}", server.base)).await;
    ana.clicks("input[value=open]").await;
    ana.clicks("main .card > .primary").await;
    ana.sees("This room is private.").await;
    look.at("room-settings-asked").await;
    // Enter asks again, and opens nothing.
    ana.types("#name", ENTER).await;
    ana.sees("This room is private.").await;
    assert_eq!(ben.json(&settings).await["access"], "private");
    ana.clicks("main .danger").await;
    ana.sees("made this room open").await;
    ana.goto(&format!("{}/rooms/{room}/people", server.base))
        .await;
    ana.clicks(".people li:nth-child(2) summary").await;
    ana.clicks(".people li:nth-child(2) .danger").await;
    ana.sees("Kept out").await;
    look.at("people-kept-out").await;
    ana.clicks(".people form[action$=ban] button:not(.danger)")
        .await;
    ana.until("!document.body.innerText.includes('Kept out')")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_talk_alone() {
    let server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    let ana = Browser::open().await;
    let look = Look::with(&ana);
    ana.signs_up(&server.base, "ana").await;
    ana.clicks(".ways a[href=\"/directs\"]").await;
    ana.types("#with", "nobody").await;
    ana.clicks("main .primary").await;
    ana.sees("Nobody on this server is called nobody.").await;
    look.at("direct-refused").await;
    ana.evaluate("document.getElementById('with').value = '', 0")
        .await;
    ana.types("#with", "ben").await;
    ana.clicks("main .primary").await;
    ana.is_following().await;
    ana.sees("your conversation with ben").await;
    look.at("direct-empty").await;
    ana.says("are you there?").await;
    ana.shows(&["are you there?"]).await;
    ana.until("document.title === 'ben – Parlor'").await;
    // Nothing says who came: both were here from the start.
    let notices =
        "Array.from(document.querySelectorAll('#log .notice'), (e) => e.offsetHeight > 0)";
    assert_eq!(ana.evaluate(notices).await, json!([true, false, false]));
    let lobby = ben.json("/rooms").await;
    let room = lobby["rooms"][0]["room"].as_str().unwrap();
    ben.says(room, "I am").await;
    ana.shows(&["are you there?", "I am"]).await;
    ana.clicks(".bar .back").await;
    ana.sees("Your rooms").await;
    look.at("lobby-with-a-conversation").await;
    ana.clicks(".account .who").await;
    ana.sees("Where you are signed in").await;
    look.at("account").await;
    ana.types("#current", "not my password").await;
    ana.types("#password", "four other words here").await;
    ana.clicks("form[action$=password] .primary").await;
    ana.sees("This is not your password.").await;
    look.at("account-refused").await;
    // Ben was here first, and is the admin.
    ben.post("/admin/people/ana/role", &[("role", "admin")])
        .await;
    ana.goto(&format!("{}/admin", server.base)).await;
    ana.clicks(".people li:nth-child(2) summary").await;
    look.at("admin").await;
    ana.clicks(".people li:nth-child(2) .acts button").await;
    ana.until("document.querySelectorAll('.tag.owner').length === 1")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_comes_by_a_link() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = Browser::open().await;
    let look = Look::with(&ana);
    ana.signs_up(&server.base, "ana").await;
    ana.goto(&format!("{}/admin", server.base)).await;
    ana.clicks("input[value=invite]").await;
    ana.clicks("main .primary").await;
    ana.until("document.querySelector(':checked').value === 'invite'")
        .await;
    let nobody = Browser::open().await;
    let door = Look::with(&nobody);
    nobody.goto(&format!("{}/login", server.base)).await;
    nobody.clicks("a[href=\"/signup\"]").await;
    nobody
        .sees("New people come to this server by invitation.")
        .await;
    door.at("sign-up-closed").await;

    ana.goto(&format!("{}/rooms", server.base)).await;
    ana.enters("tea").await;
    ana.clicks("#log .welcome a[href*=invites]").await;
    ana.sees("There are none.").await;
    look.at("invites-empty").await;
    ana.evaluate("document.querySelector('form.card').noValidate = true")
        .await;
    ana.types("#days", "400").await;
    ana.clicks("main .primary").await;
    ana.sees("A link is good for 1 to 365 days.").await;
    look.at("invites-refused").await;
    ana.evaluate("document.getElementById('days').value = '', 0")
        .await;
    ana.types("#days", "2").await;
    ana.types("#uses", "3").await;
    ana.clicks("main .primary").await;
    ana.sees("for 3 people").await;
    look.at("invite-link").await;
    let link = ana.evaluate("document.querySelector('code.link').innerText");
    let link = link.await.as_str().unwrap().to_owned();
    nobody.goto(&link).await;
    nobody.sees("ana invites you to tea.").await;
    door.at("invited").await;
    nobody.types("#username", "ben").await;
    nobody.types("#email", "ben@example.org").await;
    nobody.types("#password", PASSWORD).await;
    nobody.clicks("main .primary").await;
    nobody.is_following().await;
    ana.goto(&format!("{}/rooms/tea", server.base)).await;
    ana.sees("ben was added by ana").await;
    ana.goto(&format!("{}/invites", server.base)).await;
    ana.sees("for 2 people").await;
    look.at("invites").await;

    // Somebody with an account enters by it.
    nobody
        .goto(&format!("{}/rooms/tea/people", server.base))
        .await;
    nobody.clicks(".leave summary").await;
    nobody.clicks(".leave button").await;
    nobody.sees("You are in no room yet.").await;
    nobody.goto(&link).await;
    nobody.sees("You are ben here.").await;
    door.at("invited-with-an-account").await;
    nobody.clicks("main .primary").await;
    nobody.is_following().await;
    ana.goto(&format!("{}/invites", server.base)).await;
    ana.sees("for one person").await;
    ana.clicks(".people button").await;
    ana.sees("There are none.").await;

    // Ben shows the admin a message.
    ana.goto(&format!("{}/rooms/tea", server.base)).await;
    ana.is_following().await;
    ana.says("something unkind").await;
    nobody.sees("something unkind").await;
    nobody.clicks("#log .message .time").await;
    nobody
        .clicks(".actions details:nth-last-of-type(2) summary")
        .await;
    nobody.types("#report-reason", "It is unkind.").await;
    door.at("message-to-be-reported").await;
    nobody
        .clicks(".actions details:nth-last-of-type(2) button")
        .await;
    nobody.sees("The admins of this server have it now.").await;
    for (page, says) in [
        ("reports", "It is unkind."),
        ("rooms", "Rooms of this server"),
        ("audit", "What was done"),
    ] {
        ana.goto(&format!("{}/admin/{page}", server.base)).await;
        ana.sees(says).await;
        look.at(&format!("admin-{page}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_blocked_writes_is_folded() {
    let server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    let said = ben.says("tea", "buy my tea").await;
    let ana = Browser::open().await;
    let look = Look::with(&ana);
    ana.signs_up(&server.base, "ana").await;
    ana.enters("tea").await;
    ana.sees("buy my tea").await;
    ana.goto(&format!("{}/rooms/tea/messages/{said}", server.base))
        .await;
    ana.clicks(".actions details:last-of-type summary").await;
    ana.clicks(".actions details:last-of-type .danger").await;
    ana.sees("People you have blocked").await;
    look.at("account-with-a-block").await;
    ana.goto(&format!("{}/rooms/tea", server.base)).await;
    ana.is_following().await;
    ben.says("tea", "really, buy it").await;
    ana.until("document.querySelectorAll('#log .message').length === 2")
        .await;
    let shown =
        "Array.from(document.querySelectorAll('#log .message .body'), (e) => e.offsetHeight > 0)";
    assert_eq!(ana.evaluate(shown).await, json!([false, false]));
    look.at("room-folded").await;
    // One that has the focus is shown.
    ana.clicks(&format!("#m-{said} .time")).await;
    ana.until("location.pathname.includes('/messages/')").await;
    ana.sees("buy my tea").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_offers_an_id_and_a_row_leads_to_its_author() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = Browser::open().await;
    let look = Look::with(&ana);
    ana.signs_up(&server.base, "ana").await;
    ana.sees("You are an admin of this server").await;
    look.at("lobby-of-the-first").await;
    ana.clicks(".ways a[href=\"/new\"]").await;
    ana.types("#name", "Café & Tea").await;
    let offers = |id: &str| format!("document.getElementById('room').placeholder === '{id}'");
    ana.until(&offers("cafe-tea")).await;
    ana.clicks("input[value=private]").await;
    ana.until(&offers("cafe-tea-…")).await;
    ana.clicks("input[value=open]").await;
    ana.until(&offers("cafe-tea")).await;
    look.at("room-make").await;
    ana.clicks("main .primary").await;
    ana.until("location.pathname === '/rooms/cafe-tea'").await;
    ana.is_following().await;

    let ben = server.person("ben").await;
    ben.enters("cafe-tea").await;
    let said = ben.says("cafe-tea", "hello").await;
    ana.shows(&["hello"]).await;
    let row = format!("#m-{said}");
    ana.evaluate(&format!("document.querySelector('{row}').focus(), 0"))
        .await;
    ana.clicks(&format!("{row} .toolbar [aria-label=\"Message ben\"]"))
        .await;
    ana.until("location.pathname.startsWith('/rooms/@')").await;
    ana.sees("ben").await;

    ana.goto(&format!("{}/admin", server.base)).await;
    ana.clicks(".people li:nth-child(2) summary").await;
    ana.clicks(".people li:nth-child(2) input[value=delete]")
        .await;
    ana.types("#confirm-ben", "bob").await;
    ana.clicks("form[action$=\"/ben/delete\"] .danger").await;
    ana.sees("type its name here: ben").await;
    look.at("admin-not-deleted").await;
    let is_kept = "document.activeElement.id === 'confirm-ben' && document.querySelector('[value=delete]').checked";
    ana.until(is_kept).await;
    ana.evaluate("document.getElementById('confirm-ben').value = '', 0")
        .await;
    ana.types("#confirm-ben", "ben").await;
    ana.clicks("form[action$=\"/ben/delete\"] .danger").await;
    ana.until("document.querySelectorAll('.people li').length === 1")
        .await;
    ana.goto(&format!("{}/rooms/cafe-tea", server.base)).await;
    ana.sees("former member").await;
}

/// Without scripts, by the keyboard alone.
#[tokio::test(flavor = "multi_thread")]
async fn everything_about_people_is_a_form() {
    let server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    let ana = Browser::open_without_scripts().await;
    let look = Look::with(&ana);
    ana.signs_up(&server.base, "ana").await;
    ben.post("/admin/people/ana/role", &[("role", "admin")])
        .await;
    ana.goto(&format!("{}/invites", server.base)).await;
    ana.types("#uses", "0").await;
    ana.types("#days", &format!("2{ENTER}")).await;
    ana.sees("A link is for 1 to 10000 people.").await;
    ana.find("#uses").await.clear().await.unwrap();
    ana.types("#uses", &format!("5{ENTER}")).await;
    ana.sees("/join/").await;
    ana.goto(&format!("{}/invites", server.base)).await;
    ana.sees("to this server, for 5 people").await;
    ana.clicks(".people .quiet").await;
    ana.sees("There are none.").await;

    ana.goto(&format!("{}/new", server.base)).await;
    ana.types("#name", &format!("Tea Time{ENTER}")).await;
    ana.sees("Tea Time").await;
    ana.goto(&format!("{}/rooms/tea-time/settings", server.base))
        .await;
    ana.clicks("details.leave summary").await;
    ana.types("#confirm", &format!("no{ENTER}")).await;
    ana.sees("type its id here: tea-time").await;
    look.only_at("room-not-deleted-without-scripts").await;
    ana.find("#confirm").await.clear().await.unwrap();
    ana.types("#confirm", &format!("tea-time{ENTER}")).await;
    ana.sees("Rooms").await;
    ana.goto(&format!("{}/admin", server.base)).await;
    ana.clicks(".people li:nth-child(2) summary").await;
    ana.types("#confirm-ben", &format!("ben{ENTER}")).await;
    let is_gone = async || ben.get("/rooms").await.status() == 303;
    eventually("ben is gone", Duration::from_secs(5), is_gone).await;
}
