// Has the page's files kept for visits without a network, and changes to a newer version when one was fetched.
const { serviceWorker } = navigator;
const CODE = './sw.js';

// Workers say here which code they run.
const codes = new BroadcastChannel('attune-code');
codes.onmessage = async ({ data }) => (await serviceWorker?.ready)?.active.postMessage({ keep: data });

async function keep() {
  // A host that took it away wants its visitors back; browsers would keep what they have for ever.
  const answer = await fetch(CODE, { cache: 'no-cache' }).catch(() => null);
  await answer?.text();
  if (answer?.status === 404) return (await serviceWorker.getRegistration())?.unregister();
  const registration = await serviceWorker.register(CODE);
  // This page has only just begun, so nothing is lost by beginning again with the newer version.
  if (registration.waiting && serviceWorker.controller) {
    serviceWorker.addEventListener('controllerchange', () => location.reload(), { once: true });
    askAgain(() => registration.waiting?.postMessage('take over'));
  }
}

// A tab that was just closed, or this one's last page, counts as open for a moment more.
function askAgain(ask) {
  const timer = setInterval(ask, 200);
  const stop = () => clearInterval(timer);
  setTimeout(stop, 3000);
  // Whoever has begun something keeps the version it was begun with.
  for (const event of ['pointerdown', 'keydown', 'dragenter', 'change']) addEventListener(event, stop, { once: true, capture: true });
  ask();
}

// Private windows and plain http have none; the page then needs its host at every visit.
if (serviceWorker) keep().catch(error => console.info(`this page will not open offline: ${error.message}`));
