// The form that makes a room: it offers the id that the name makes.
const WAIT_MS = 200;
const form = document.getElementById('make-room');
const { name, room } = form.elements;
const says = document.getElementById('room-offer');
let waiting;

async function offer() {
  const typed = name.value;
  const answer = await fetch(`/new?${new URLSearchParams({ name: typed })}`, { headers: { Accept: 'application/json' } });
  if (!answer.ok || typed !== name.value) return;
  const id = (await answer.json()).room;
  // Of a private room nobody can guess it: it goes on with letters that are not known yet.
  const isPrivate = form.elements.access.value === 'private';
  const offered = id && isPrivate ? `${id}-…` : id ?? '';
  room.placeholder = offered;
  says.textContent = offered && !room.value ? `It will be ${offered}.` : '';
}

form.addEventListener('input', ({ target }) => {
  if (target !== name && target.name !== 'access') return;
  clearTimeout(waiting);
  waiting = setTimeout(() => offer().catch(() => {}), WAIT_MS);
});
if (name.value) offer().catch(() => {});
