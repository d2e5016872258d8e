// Keeps a page up to date without a reload: [data-live-url] is asked every second, and its answer
// put into [data-live=...]; when it is over the page loads itself once more. Also the copy buttons. No inline script anywhere needs it to be allowed.
(() => {
  "use strict";
  const POLL_MS = 1000;

  const put = (name, value) => {
    for (const element of document.querySelectorAll(`[data-live="${name}"]`)) {
      if (name === "bar") element.value = value;
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
    if ("percent" in answer) {
      put("bar", answer.percent);
      put("percent", `${answer.percent} %`);
    }
    for (const name of ["state", "text", "took", "outcome"]) if (name in answer) put(name, answer[name]);
    // Where a page names its version, anything new is worth all of it again.
    const seen = box.dataset.liveVersion;
    const isNew = seen !== undefined && seen !== answer.version;
    if (!answer.is_over && !isNew) setTimeout(follow, POLL_MS, box);
    else location.reload();
  };

  const copy = async (button) => {
    const text = button.previousElementSibling.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(button.previousElementSibling);
    }
  };

  for (const box of document.querySelectorAll("[data-live-url]")) setTimeout(follow, POLL_MS, box);
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => copy(button));
  }
  if (location.hash.startsWith("#attempt-")) {
    document.querySelector(location.hash)?.classList.add("mv-target");
  }
})();
