// What the theme and the gallery leave unsaid to screen readers: https://github.com/pydata/pydata-sphinx-theme/issues/1919
document.addEventListener("DOMContentLoaded", () => {
  // Its label says less than the button shows, which has the keys, too.
  document.querySelectorAll(".search-button-field").forEach((button) => {
    button.setAttribute("aria-label", button.textContent.replace(/\s+/g, " ").trim());
  });
  document.querySelectorAll("summary:has(.toctree-toggle)").forEach((toggle) => {
    toggle.setAttribute("aria-label", "Pages below");
  });
  // The gallery's links lie over their pictures, and hide their words.
  document.querySelectorAll(".sphx-glr-thumbcontainer a").forEach((link) => {
    link.setAttribute("aria-label", link.textContent.trim());
  });
});
