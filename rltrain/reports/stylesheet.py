"""How a report looks: on a screen, on a phone and on paper."""

STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #5b6672; --line: #dfe4ea; --accent: #0072b2; --bad: #b3261e; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1.25rem 4rem; background: #fff; color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; }
h2 { font-size: 1.3rem; margin: 2.75rem 0 .5rem; padding-bottom: .3rem; border-bottom: 2px solid var(--line);
  overflow-wrap: anywhere; }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .4rem; overflow-wrap: anywhere; }
p { margin: .4rem 0; }
.soft, figcaption, nav { color: var(--soft); font-size: .9rem; }
nav a { color: var(--accent); margin-right: 1rem; white-space: nowrap; }
.wide { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; font-size: .88rem; min-width: 60%; }
th, td { text-align: left; padding: .28rem .9rem .28rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.wide td:first-child { min-width: 13rem; }
figure { margin: .8rem 0; }
img, video { max-width: 100%; height: auto; }
.films { display: flex; flex-wrap: wrap; gap: 1rem; }
.films figure { flex: 0 1 20rem; margin: 0; }
.films img, .films video { width: 100%; border: 1px solid var(--line); border-radius: 4px; }
.card { display: flex; flex-wrap: wrap; gap: 1.25rem; align-items: flex-start; }
.card img { width: 11rem; border: 1px solid var(--line); border-radius: 4px; }
.card dl { flex: 1 1 22rem; }
dl { margin: .4rem 0; font-size: .9rem; }
dl div { display: flex; gap: .75rem; padding: .16rem 0; border-bottom: 1px solid var(--line); }
dt { flex: 0 0 11rem; color: var(--soft); overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; }
.settings { columns: 2 22rem; column-gap: 2rem; }
.settings div { break-inside: avoid; }
.settings dt { flex-basis: 16rem; }
.bad { color: var(--bad); overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  body { padding: 1rem .75rem 3rem; font-size: 15px; }
  dl div { display: block; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  h2, h3 { break-after: avoid; }
  figure, tr { break-inside: avoid; }
  .wide { overflow: visible; }
  nav, video { display: none; }
}
"""
