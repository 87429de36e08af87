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
  if (registration.waiting && serviceWorker.controller) beginAgain(registration.waiting);
}

// Nothing is lost by beginning again with the newer version while nothing was begun. It is asked to take over once the
// worker has its code: Chromium lets it do so when the older one has answered everything, and where files were still
// on their way it looks again only after half a minute.
function beginAgain(newer) {
  const reload = () => location.reload();
  const ask = () => newer.postMessage('take over');
  serviceWorker.addEventListener('controllerchange', reload, { once: true });
  let timer = setTimeout(ask, 8000);
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(ask, 500);
  };
  codes.addEventListener('message', soon, { once: true });
  const keepThisOne = () => {
    clearTimeout(timer);
    codes.removeEventListener('message', soon);
    serviceWorker.removeEventListener('controllerchange', reload);
  };
  for (const event of ['pointerdown', 'keydown', 'dragenter', 'change']) addEventListener(event, keepThisOne, { once: true, capture: true });
}

// Private windows and plain http have none; the page then needs its host at every visit.
if (serviceWorker) keep().catch(error => console.info(`this page will not open offline: ${error.message}`));
