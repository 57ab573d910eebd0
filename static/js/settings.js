// The room's name and topic at the top of its page, and whether one may write, when somebody changes them.
import { attempt, make, room } from './page.js';

// So many open pages of a room don't all load again at once.
const RELOAD_WITHIN_MS = 3_000;

let willReload = false;

/** Loads the page again, but not over an edit, an answer or a dialog, which would be lost. */
function reloadSoon() {
  willReload = true;
  setTimeout(() => {
    if (document.querySelector('.editing, #replying, dialog[open]')) reloadSoon();
    else location.reload();
  }, Math.random() * RELOAD_WITHIN_MS);
}

function showName(name) {
  const title = name || room;
  document.querySelector('.title h1 a').textContent = title;
  for (const link of document.querySelectorAll(`.side li[data-room="${room}"] .name`)) link.textContent = title;
  document.dispatchEvent(new CustomEvent('parlor:titled', { detail: `${title} – Parlor` }));
}

function showTopic(topic) {
  const here = document.getElementById('here');
  here.parentNode.querySelector('.topic')?.remove();
  if (topic) here.after(make('span', { className: 'topic', dir: 'auto', title: topic, textContent: topic }));
}

attempt(() => {
  document.addEventListener('parlor:came', ({ target: { dataset: { setting, value } } }) => {
    if (setting === 'name') showName(value);
    else if (setting === 'topic') showTopic(value);
    // The composer depends on who may write: the server makes the page anew.
    else if (setting === 'writing' && !willReload) reloadSoon();
  });
});
