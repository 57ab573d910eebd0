// Messages that are on their way, in a list below the log, until the real ones come.
import { log, avatar, make, name, user } from './page.js';

const list = document.getElementById('outbox');
const aloud = document.getElementById('sending');
// The text of each row: a browser that translates changes what it shows.
const texts = new Map();
// Fetched while there is a server to ask.
const picture = Object.assign(new Image(36, 36), { className: 'avatar', src: avatar, alt: '' });

const idOf = ({ nonce }) => `n-${nonce}`;

/** A text as a row shows it, as far as it is compared: without the signs of its markup, and languages' names. */
function shown(text) {
  return text?.replace(/^```\w*$/gm, '').replace(/[`\s*_~>#+\-\\]/g, '');
}

/** Shows a message before the server has it. */
export function show(message) {
  const row = make('li', { className: 'message pending', id: idOf(message), tabIndex: -1 });
  row.dataset.author = user;
  const meta = make('p', { className: 'meta' });
  meta.append(make('b', { className: 'author', textContent: name }));
  const body = make('div', { className: 'body', dir: 'auto', textContent: message.body.trimEnd() });
  const above = list.lastElementChild ?? log.lastElementChild;
  row.classList.toggle('follows', above?.dataset.author === user);
  row.append(picture.cloneNode(), meta, body);
  texts.set(row.id, shown(message.body));
  list.append(row);
}

/** Says under a message how its sending goes. Says whether that is new. */
export function say(message, what, ...buttons) {
  const row = document.getElementById(idOf(message));
  const before = row?.querySelector('.state');
  if (!what) aloud.textContent = '';
  if (!row || before?.dataset.says === what) return false;
  if (before) takeAway(before);
  if (!what) return false;
  aloud.textContent = what;
  const state = make('p', { className: 'state' });
  state.dataset.says = what;
  state.append(what, ...buttons);
  row.append(state);
  return true;
}

/** The server has it, under this number. `comes` says whether the real one still comes into the log. */
export function settle(message, seq, comes) {
  const row = document.getElementById(idOf(message));
  say(message, '');
  if (!row) return;
  // The real one may be here already, or long ago: sent before this page was loaded, and answered now.
  const newest = Array.from(log.children).reverse().find((one) => one.id.startsWith('m-'));
  if (newest && Number(seq.slice(2)) <= Number(newest.id.slice(2)) || !comes) takeAway(row);
  else row.dataset.seq = seq;
}

export function remove(message) {
  const row = document.getElementById(idOf(message));
  if (row) takeAway(row);
}

/** Focus is never lost with what had it. */
function takeAway(part) {
  if (part.contains(document.activeElement)) document.getElementById('composer-text').focus();
  texts.delete(part.id);
  part.remove();
}

/** The real one has come: the row that stood for it goes, in the same frame. `waiting` are not sent yet. */
export function replace(row, waiting) {
  if (row.dataset.author === user) {
    const kept = waiting.map(idOf);
    const text = shown(row.querySelector('.body')?.textContent);
    const pending = Array.from(list.children).find((one) => one.dataset.seq === row.id
      || (texts.get(one.id) === text && !kept.includes(one.id)));
    if (pending) takeAway(pending);
  }
  list.firstElementChild?.classList.toggle('follows', row.dataset.author === user);
}
