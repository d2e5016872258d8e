// Keeps the list of tasks up to date without a reload: while a task on it is not over, the page is
// asked for again every few seconds, and its rows are put in the place of those that are shown.
(() => {
  "use strict";
  const POLL_MS = 2000;
  const rows = (page) => page.querySelector("#result_list");
  const isUnderWay = () => rows(document)?.querySelector("[data-unfinished]");

  const renew = async () => {
    if (!document.hidden) { // else nobody looks
      const response = await fetch(location.href);
      if (!response.ok || response.redirected) throw new Error(response.status);
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      if (rows(page)) rows(document).replaceChildren(...rows(page).children);
    }
  };

  const follow = async () => {
    let pause = POLL_MS;
    try {
      await renew();
    } catch {
      pause = 5 * POLL_MS; // the server is away, or the session is over
    }
    if (isUnderWay()) setTimeout(follow, pause);
  };

  document.addEventListener("DOMContentLoaded", () => {
    if (isUnderWay()) setTimeout(follow, POLL_MS);
  });
})();
