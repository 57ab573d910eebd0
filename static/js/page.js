// The page: whose it is, which room it shows, and helpers that other modules share.

export const { user, room, epoch, name, avatar } = document.body.dataset;
export const log = document.getElementById('log');

// Parts that stand in the page only where scripts run; browsers that know of no templates would show one.
for (const folded of document.querySelectorAll('script[type="text/html"]')) folded.outerHTML = folded.textContent;

// The browser restored a page from its memory, as it was when it was left: bring it up to date.
addEventListener('pageshow', (event) => {
  if (event.persisted) location.reload();
});

// Signing out leads on by itself; the page need not find out that its session is over.
addEventListener('submit', ({ target }) => {
  if (target.matches('.account')) document.addEventListener('parlor:signed-out', (event) => event.preventDefault());
});

/** Runs parts each by itself: one that this browser cannot do takes no other along. */
export function attempt(...parts) {
  for (const part of parts) {
    try {
      part();
    } catch (error) {
      console.error(error);
    }
  }
}

/** The page was made for somebody who is signed out by now. Says whether it starts over. */
export function startOver() {
  const starts = document.dispatchEvent(new Event('parlor:signed-out', { cancelable: true }));
  if (starts) location.reload();
  return starts;
}

/** Whether the keyboard is on the screen. */
export function isTouched() {
  return window.matchMedia?.('(hover: none) and (pointer: coarse)').matches ?? false;
}

/** Submits a form as its button would. */
export function submit(form) {
  if (form.requestSubmit) form.requestSubmit();
  else form.querySelector('button').click();
}

/** A new element with these properties. */
export function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

export function pause(ms) {
  return new Promise((done) => { setTimeout(done, ms); });
}
