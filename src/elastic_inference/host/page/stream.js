// The stream of snapshots: reads it, opens it again when it breaks, and says at all times in what state it is.

const LATE_MS = 6000; // a snapshot comes each second, some seconds late where an accelerator hangs
const RETRY_MS = [500, 1000, 2000, 4000, 8000];

// `onState(state, text)`: state is "waiting", "live", "late" or "lost". `onFrame(frame)`: the parsed snapshot.
export function openStream(onState, onFrame) {
  let source = null;
  let numFailed = 0;
  let heardAt = 0;
  let retryAt = 0;

  function open() {
    retryAt = 0;
    source = new EventSource("/page/stream/events");
    source.addEventListener("state", (event) => {
      numFailed = 0;
      heardAt = performance.now();
      onState("live", "live");
      onFrame(JSON.parse(event.data));
    });
    source.addEventListener("over", () => location.reload());
    source.onerror = lose;
  }

  // EventSource would come back by itself, but after some errors never, and it says nothing of when.
  function lose() {
    source.close();
    source = null;
    const wait = RETRY_MS[Math.min(numFailed, RETRY_MS.length - 1)];
    numFailed += 1;
    retryAt = performance.now() + wait;
    if (numFailed > 1) checkSession();
  }

  async function checkSession() {
    const answer = await fetch("/v1/types", { credentials: "same-origin" }).catch(() => null);
    if (answer !== null && answer.status === 401) location.reload();
  }

  function look() {
    const now = performance.now();
    if (retryAt) {
      if (now >= retryAt) open();
      else onState("lost", `connection lost; next try in ${Math.ceil((retryAt - now) / 1000)} s`);
    } else if (heardAt && now - heardAt > LATE_MS) {
      onState("late", `no news for ${Math.round((now - heardAt) / 1000)} s`);
    }
  }

  onState("waiting", "connecting");
  open();
  setInterval(look, 500);
}
