// Not a module: it runs before the first paint, so that the page never flashes in the wrong colours.
(() => {
  const SLOT = "mtlora.theme";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const kept = localStorage.getItem(SLOT);
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;

  addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme-button")?.addEventListener("click", () => {
      const now = root.dataset.theme ?? (dark.matches ? "dark" : "light");
      root.dataset.theme = now === "dark" ? "light" : "dark";
      localStorage.setItem(SLOT, root.dataset.theme);
    });
  });
})();
