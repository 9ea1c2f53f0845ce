"""The style of report.html: system fonts, both colour schemes, nothing fetched."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --quiet: #62676f; --paper: #ffffff; --line: #d8dbe0; --bar: #cfe2ff;
  --warn: #fff4d6 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e7ea; --quiet: #a0a5ae; --paper: #17191c; --line: #3a3e45;
  --bar: #234a7d; --warn: #4a3c12 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 64px }
h1 { font-size: 26px; margin: 0 0 12px } h2 { font-size: 18px; margin: 36px 0 10px }
p { margin: 6px 0 } .quiet { color: var(--quiet); font-size: 13px }
.note { background: var(--warn); padding: 8px 12px; border-radius: 6px }
.wide { overflow-x: auto } .wide svg { max-width: 100%; height: auto; border-radius: 6px }
table { border-collapse: collapse } th, td { padding: 3px 12px 3px 0; text-align: left; font-weight: 400 }
th { font-weight: 600 } td.number { text-align: right; min-width: 96px; padding: 3px 8px;
  font-variant-numeric: tabular-nums;
  background: linear-gradient(90deg, var(--bar) calc(var(--share, 0) * 100%), transparent 0) }
td.strong { font-weight: 700 } .confusion td, .confusion th { border: 1px solid var(--line); padding: 4px 8px }
.scores { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 12px 40px }
caption { text-align: left; font-weight: 600; padding-bottom: 2px; border-bottom: 1px solid var(--line) }
.chip { display: inline-flex; align-items: center; margin-right: 14px }
.chip i { width: 13px; height: 13px; margin: 0 5px; border: 1px solid var(--line); border-radius: 3px }
.strips { display: inline-block; min-width: 420px } .heads { display: flex; font-size: 13px; color: var(--quiet) }
.heads span { flex: 1 } figure { margin: 0 0 14px } figure img { display: block; max-width: 100%; background: #fff }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr)); gap: 4px 24px }
.pairs img { width: 100% }
figcaption { font-size: 13px; color: var(--quiet) } figcaption b { color: var(--ink); font-weight: 600 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 0 } dt { color: var(--quiet) }
dd { margin: 0; overflow-wrap: anywhere } pre { background: color-mix(in srgb, var(--ink) 7%, transparent);
  padding: 12px; border-radius: 6px; overflow-x: auto }
@media (max-width: 600px) { dl { grid-template-columns: 1fr } dt { margin-top: 6px } }
"""
