// The form that makes a room: it offers the id that the name makes.
const form = document.getElementById('make-room');
const { name, room } = form.elements;

async function offer() {
  const typed = name.value;
  const answer = await fetch(`/new?${new URLSearchParams({ name: typed })}`, { headers: { Accept: 'application/json' } });
  if (!answer.ok || typed !== name.value) return;
  const id = (await answer.json()).room;
  // Of a private room nobody can guess it: it goes on with letters that are not known yet.
  const isPrivate = form.elements.access.value === 'private';
  room.placeholder = id && isPrivate ? `${id}-…` : id ?? '';
}

form.addEventListener('input', ({ target }) => {
  if (target !== room) offer().catch(() => {});
});
if (name.value) offer().catch(() => {});
