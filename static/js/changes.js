// Changes to messages that are on the page: a new row in the place of the old one. Focus and what one is
// doing there stay, quotes follow, and what has happened is said once.
import { scroller } from './log.js';
import { attempt, log, make } from './page.js';

const aloud = document.getElementById('changes');
let before = null;

/** Reads what a row says, to tell what a change was. */
function readRow(row) {
  return { body: row.querySelector('.body:not(.deleted)')?.textContent, hasFocus: row.contains(document.activeElement) };
}

/** Puts a changed row into the place of the one there is. */
export function putInPlace(row) {
  const old = document.getElementById(row.id);
  if (!old) return;
  const was = readRow(old);
  hush();
  old.replaceWith(row);
  changed(row, was);
}

/** Rows that are put in place are not read aloud as if they had just come. */
function hush() {
  scroller.setAttribute('aria-live', 'off');
  setTimeout(() => scroller.removeAttribute('aria-live'), 1_000);
}

function changed(row, was) {
  const now = readRow(row);
  if (was.hasFocus) row.focus({ preventScroll: true });
  const author = row.querySelector('.author')?.textContent;
  if (was.body !== undefined && now.body === undefined) aloud.textContent = 'A message was deleted.';
  else if (was.body !== now.body) aloud.textContent = `${author} edited: ${now.body}`;
  quote(row, author, now.body);
}

/** Replies show how the message above them begins. */
function quote(row, author, body) {
  for (const quote of log.querySelectorAll(`[data-quotes="${row.id.slice(2)}"]`)) {
    const text = make('span', { dir: 'auto', textContent: body?.trim().slice(0, 160) ?? 'This message was deleted.' });
    quote.replaceChildren(make('b', { textContent: author }), ' ', text);
  }
}

function follow() {
  if (!log) return;
  document.addEventListener('htmx:before:swap', ({ detail }) => {
    const tasks = (detail.tasks ?? []).filter(({ type, target }) => type === 'partial' && target);
    if (!tasks.length) return;
    hush();
    before = tasks.map(({ target }) => [target.id, readRow(target)]);
  });
  document.addEventListener('htmx:after:swap', () => {
    for (const [id, was] of before ?? []) {
      const row = document.getElementById(id);
      if (row) changed(row, was);
    }
    before = null;
  });
}

attempt(follow);
