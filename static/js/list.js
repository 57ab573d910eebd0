// The lobby's list of rooms, brought up to date when something happens in one of them: what was said last, when,
// and the order. It comes as the server makes it, so a deleted text is gone from here too.
import { user } from './page.js';

const list = document.querySelector('ul.rooms');

/** Has the list made anew, if there is one; whoever is on a room's link stays on it. */
export async function refreshList() {
  if (!list) return;
  const answer = await fetch(`/rooms?as=${user}`, { headers: { Accept: 'text/html', 'HX-Request-Type': 'partial' } });
  if (!answer.ok) return;
  const items = await answer.text();
  const focused = document.activeElement.closest('ul.rooms li')?.dataset.room;
  list.innerHTML = items;
  if (focused) list.querySelector(`li[data-room="${focused}"] a`)?.focus();
}
