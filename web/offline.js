// Has the page's files kept for visits without a network, and changes to a newer version when one was fetched.
const { serviceWorker } = navigator;

// Workers say here which code they run.
const codes = new BroadcastChannel('attune-code');
codes.onmessage = async ({ data }) => (await serviceWorker?.ready)?.active.postMessage({ keep: data });

async function keep() {
  const registration = await serviceWorker.register('./sw.js');
  // This page has only just begun, so nothing is lost by beginning again with the newer version.
  if (registration.waiting && serviceWorker.controller) {
    serviceWorker.addEventListener('controllerchange', () => location.reload(), { once: true });
    registration.waiting.postMessage('take over');
  }
}

// Private windows and plain http have none; the page then needs its host at every visit.
if (serviceWorker) keep().catch(error => console.info(`this page will not open offline: ${error.message}`));
