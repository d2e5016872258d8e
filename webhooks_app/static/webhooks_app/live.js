// Keeps a page up to date without a reload, and makes the copy buttons copy.
// [data-live-url] is asked every second, and its answer put into [data-live=...]; when it is over
// the page loads itself once more. A list with a row under way ([data-unfinished]), and what names
// its seconds ([data-renew]), are asked for again with their page.
// No inline script anywhere needs this to be allowed.
(() => {
  "use strict";
  const POLL_MS = 1000;

  const show = (image, address) => {
    image.hidden = !address;
    if (address && image.getAttribute("src") !== address) image.src = address;
  };

  const put = (name, value) => {
    for (const element of document.querySelectorAll(`[data-live="${name}"]`)) {
      if (name === "bar") element.value = value;
      else if (element instanceof HTMLImageElement) show(element, value);
      else element.textContent = value;
    }
  };

  const follow = async (box) => {
    if (document.hidden) {
      setTimeout(follow, POLL_MS, box); // nobody looks
      return;
    }
    let answer;
    try {
      const response = await fetch(box.dataset.liveUrl, { headers: { accept: "application/json" } });
      if (!response.ok) throw new Error(response.status);
      answer = await response.json();
    } catch {
      setTimeout(follow, 5 * POLL_MS, box);
      return;
    }
    if ("percent" in answer) put("bar", answer.percent);
    for (const [name, value] of Object.entries(answer)) {
      put(name, name === "percent" ? `${value} %` : value);
    }
    // Where a page names its version, anything new is worth all of it again.
    const seen = box.dataset.liveVersion;
    const isNew = seen !== undefined && seen !== answer.version;
    if (!answer.is_over && !isNew) setTimeout(follow, POLL_MS, box);
    else location.reload();
  };

  const renew = async (selector) => {
    if (document.hidden) return;
    const response = await fetch(location.href);
    if (!response.ok || response.redirected) throw new Error(response.status);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const fresh = page.querySelector(selector);
    if (fresh) document.querySelector(selector).replaceChildren(...fresh.children);
  };

  const keepRenewing = async (selector, pause, isDue) => {
    if (!isDue()) return;
    let next = pause;
    try {
      await renew(selector);
    } catch {
      next = 5 * pause; // the server is away, or the session is over
    }
    setTimeout(keepRenewing, next, selector, pause, isDue);
  };

  const copy = async (button) => {
    const text = button.previousElementSibling.textContent;
    let isCopied = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch { // over plain http there is no clipboard: the older way, else it is selected at least
      getSelection().selectAllChildren(button.previousElementSibling);
      isCopied = document.execCommand("copy");
    }
    button.setAttribute("aria-live", "polite");
    button.textContent = isCopied ? "Copied" : "Press Ctrl-C";
  };

  document.addEventListener("DOMContentLoaded", () => {
    for (const box of document.querySelectorAll("[data-live-url]")) setTimeout(follow, POLL_MS, box);
    for (const button of document.querySelectorAll("[data-copy]")) {
      button.addEventListener("click", () => copy(button));
    }
    if (document.querySelector("#result_list")) {
      const isDue = () => document.querySelector("#result_list [data-unfinished]") !== null;
      setTimeout(keepRenewing, 2 * POLL_MS, "#result_list", 2 * POLL_MS, isDue);
    }
    const box = document.querySelector("[data-renew]");
    if (box) {
      const pause = 1000 * Number(box.dataset.renew);
      setTimeout(keepRenewing, pause, "[data-renew]", pause, () => true);
    }
    if (location.hash.startsWith("#attempt-")) {
      document.querySelector(location.hash)?.classList.add("mv-target");
    }
  });
})();
