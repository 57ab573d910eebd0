// Keys beyond those that pages have anyway; the dialog `keys` lists them.
import { attempt, log, make, submit } from './page.js';

/** Whether a key is this letter, whatever Caps Lock says; or, where letters are not Latin ones, its place. */
function isLetter({ key = '', code }, letter) {
  return key.toLowerCase() === letter || (!/^[a-z]$/i.test(key) && code === `Key${letter.toUpperCase()}`);
}

function focusRow(row) {
  if (!row) return false;
  row.focus({ preventScroll: true });
  row.scrollIntoView({ block: 'nearest' });
  return true;
}

function listen() {
  const text = document.getElementById('composer-text');
  const jump = document.getElementById('jump');
  const keys = document.getElementById('keys');
  if (!log || !text || !jump || !keys) return;
  const offerRooms = () => {
    // An old browser has no dialogs, and the lobby asks the same.
    if (!jump.showModal) return location.assign('/rooms');
    // The page names them once, in its list.
    const rooms = Array.from(document.querySelectorAll('.side li[data-room]'), (link) => link.dataset.room);
    document.getElementById('jump-rooms').replaceChildren(...rooms.map((value) => make('option', { value })));
    jump.showModal();
  };
  document.addEventListener('keydown', (event) => {
    if (document.querySelector('dialog[open]')) return;
    const isTyping = event.target.matches?.('input, textarea');
    const row = event.target.closest?.('.log > .message');
    const rows = Array.from(document.querySelectorAll('.log > .message'));
    let done = true;
    if (isLetter(event, 'k') && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey) offerRooms();
    else if (event.key === 'ArrowUp' && event.altKey && event.target === text) done = focusRow(rows[rows.length - 1]);
    else if (event.ctrlKey || event.metaKey || event.altKey) done = false;
    else if (event.key === '/' && !isTyping) offerRooms();
    else if (['?', '؟'].includes(event.key) && !isTyping) keys.showModal?.();
    else if (event.key === 'Escape' && event.target !== text) text.focus();
    else if (event.key === 'ArrowUp' && event.target === text && !text.value) done = focusRow(rows[rows.length - 1]);
    else if (event.key === 'ArrowUp' && row) done = focusRow(rows[rows.indexOf(row) - 1]);
    else if (event.key === 'ArrowDown' && row) {
      if (!focusRow(rows[rows.indexOf(row) + 1])) text.focus();
    } else done = false;
    if (done) event.preventDefault();
  });
  // In WebKit the first Enter only closes the list of suggestions. Where one of them was picked with the
  // arrows it has to, everywhere else Enter goes there.
  let isPicking = false;
  const field = document.getElementById('jump-room');
  field.addEventListener('input', () => { isPicking = false; });
  field.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowUp' || event.key === 'ArrowDown') isPicking = true;
    if (event.key !== 'Enter' || event.isComposing || event.keyCode === 229 || isPicking) return;
    event.preventDefault();
    submit(field.form);
  });
}

attempt(listen);
