// Times in the reader's zone and language, before they are painted; the server writes UTC.
import { attempt } from './page.js';

function localise(root) {
  const today = new Date().toDateString();
  for (const time of root.querySelectorAll('time')) {
    const at = new Date(time.dateTime);
    if (isNaN(at)) continue;
    const clock = at.toLocaleTimeString([], { hour: 'numeric', minute: '2-digit' });
    const day = at.toLocaleDateString([], { day: 'numeric', month: 'short' });
    // In the log a line tells the days apart.
    time.textContent = time.closest('.log') || at.toDateString() === today ? clock : `${day}, ${clock}`;
    time.title = at.toLocaleString();
  }
}

attempt(() => {
  localise(document);
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) {
      for (const added of addedNodes) if (added.nodeType === Node.ELEMENT_NODE) localise(added);
    }
  }).observe(document.body, { childList: true, subtree: true });
});
