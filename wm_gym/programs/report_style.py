"""How `wm-gym report`'s page looks: light and dark, on a phone and on a desk."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfaf8; --card: #fff; --ink: #1b1f24; --quiet: #59626d; --line: #e2e0da;
  --accent: #1f55b5; --shade: #0003; --hole: #fdf3dc; --hole-line: #d9a326;
  --s0: #1f55b5; --s1: #c24a14; --s2: #0f7b57; --s3: #8637a5; --s4: #806000; --s5: #a82a55;
  --grey: #6f7782;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #13161a; --card: #1a1e23; --ink: #e7e9ec; --quiet: #a0a9b4; --line: #2d333a;
    --accent: #8db4ff; --shade: #0007; --hole: #2b2412; --hole-line: #b98d2a;
    --s0: #7eabff; --s1: #ff9560; --s2: #45c79a; --s3: #d08ff0; --s4: #dcbc4a; --s5: #ff86ab;
    --grey: #98a1ac;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
header, main, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; }
h1 {
  font-size: clamp(1.7rem, 5vw, 2.4rem); line-height: 1.15; letter-spacing: -0.02em;
  margin: 0 0 0.4rem; overflow-wrap: anywhere;
}
h2 { font-size: 1.35rem; line-height: 1.25; letter-spacing: -0.01em; margin: 0 0 0.75rem; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 0.5rem; }
p:empty { display: none; }
p, ul { max-width: 66ch; margin: 0.6rem 0; }
.lead { color: var(--quiet); overflow-wrap: anywhere; }
a { color: var(--accent); text-underline-offset: 0.15em; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
section {
  margin: 0 0 1.25rem; padding: 1.5rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 12px; scroll-margin-top: 1rem;
}
section > :last-child, section > :last-child > :last-child { margin-bottom: 0; }
nav ul {
  display: flex; flex-wrap: wrap; gap: 0.2rem 1.1rem; list-style: none; padding: 0;
  margin: 1.25rem 0; max-width: none;
}
.glance {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 13.5rem), 1fr));
  gap: 0.75rem; margin: 1.5rem 0;
}
.glance > div {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 0.9rem 1.1rem; display: flex; flex-direction: column;
}
.glance dt { color: var(--quiet); font-size: 0.85rem; }
.glance dd { margin: 0; }
.glance .value {
  font-size: 1.75rem; font-weight: 650; letter-spacing: -0.02em; line-height: 1.3;
  font-variant-numeric: tabular-nums;
}
.glance .about { color: var(--quiet); font-size: 0.82rem; line-height: 1.4; }
figure { margin: 1.25rem 0; }
figcaption { color: var(--quiet); font-size: 0.88rem; max-width: 75ch; margin-top: 0.6rem; }
.panels {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr));
  gap: 1rem 1.5rem;
}
.panels.two { grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.panels svg { width: 100%; max-width: 29rem; height: auto; display: block; overflow: visible; }
.legend {
  display: flex; flex-wrap: wrap; gap: 0.15rem 1.2rem; list-style: none; padding: 0;
  margin: 0 0 0.75rem; font-size: 0.88rem; max-width: none;
}
.legend li { display: flex; align-items: center; gap: 0.45rem; }
.key { width: 24px; height: 12px; flex: none; }
svg text { font-size: 11px; fill: var(--quiet); font-variant-numeric: tabular-nums; }
svg .panel-title { font-size: 12.5px; font-weight: 600; fill: var(--ink); }
svg .middle { text-anchor: middle; }
svg .end { text-anchor: end; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .base { stroke: var(--grey); stroke-width: 1; }
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); }
.s3 { --c: var(--s3); } .s4 { --c: var(--s4); } .s5 { --c: var(--s5); } .grey { --c: var(--grey); }
svg .line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; }
svg .dashed .line { stroke-dasharray: 5 4; stroke-width: 1.5; }
svg .faint .line { stroke-width: 1; opacity: 0.55; }
svg .mark { fill: var(--c); stroke: var(--card); stroke-width: 0.75; }
svg .band { fill: var(--c); opacity: 0.16; }
svg .whisker { stroke: var(--c); stroke-width: 1.25; opacity: 0.6; }
.scroll {
  overflow-x: auto; max-width: 100%; margin: 1rem 0; background:
    linear-gradient(to left, var(--card) 45%, transparent) right / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--shade), transparent) right / 0.9rem 100% no-repeat scroll;
}
figure > .scroll { margin: 0; }
table {
  border-collapse: collapse; font-size: 0.88rem; line-height: 1.4; width: 100%;
  font-variant-numeric: tabular-nums;
}
caption {
  text-align: left; font-weight: 600; padding: 0 0 0.4rem; caption-side: top;
  position: sticky; left: 0; max-width: calc(100vw - 4rem);
}
th, td { padding: 0.34rem 0.7rem; border-bottom: 1px solid var(--line); vertical-align: baseline; }
td, thead th { text-align: right; white-space: nowrap; }
thead th {
  color: var(--quiet); font-weight: 500; font-size: 0.82rem; vertical-align: bottom;
  white-space: normal; min-width: 5.5rem;
}
th[scope="row"], thead th:first-child {
  text-align: left; font-weight: 400; position: sticky; left: 0; background: var(--card);
  padding-left: 0; min-width: 11.5rem; white-space: normal;
}
th[scope="rowgroup"] { text-align: left; padding: 1rem 0 0.3rem; font-weight: 600; }
th[scope="rowgroup"] span {
  display: inline-block; position: sticky; left: 0; max-width: calc(100vw - 4rem);
}
tbody tr:last-child > * { border-bottom-color: transparent; }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; padding-right: 0; }
.facts th[scope="row"] { color: var(--quiet); width: 11rem; min-width: 7rem; position: static;
  overflow-wrap: anywhere; }
.interval { color: var(--quiet); font-size: 0.92em; }
.bar { display: block; height: 0.7rem; background: var(--s0); border-radius: 2px; opacity: 0.8; }
td:has(> .bar) { width: 22%; min-width: 5rem; }
.paper { background: #fff; border-radius: 6px; padding: 0.5rem; width: fit-content; }
.paper img { display: block; width: 100%; height: auto; }
video { display: block; max-width: 100%; max-height: 80vh; border-radius: 6px; background: #fff; }
details { border-top: 1px solid var(--line); padding: 0.55rem 0; }
details:last-child { padding-bottom: 0; }
summary { cursor: pointer; font-weight: 500; }
summary::marker { color: var(--quiet); }
code, pre { font: 0.88em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { overflow-wrap: anywhere; }
pre {
  overflow-x: auto; padding: 0.75rem 0.9rem; border: 1px solid var(--line); border-radius: 8px;
  background: var(--page);
}
pre code { overflow-wrap: normal; font-size: 1em; }
.gap {
  border-left: 4px solid var(--hole-line); background: var(--hole); padding: 0.5rem 1rem;
  border-radius: 0 8px 8px 0; margin: 0.75rem 0;
}
.gap p { margin: 0.2rem 0; overflow-wrap: anywhere; }
footer { color: var(--quiet); font-size: 0.85rem; padding-bottom: 3rem; }
@media (max-width: 40rem) {
  header, main, footer { padding-left: 0.75rem; padding-right: 0.75rem; }
  header { padding-top: 1.5rem; }
  section { padding: 1.1rem 0.9rem; }
  .glance { grid-template-columns: 1fr 1fr; }
  .glance > div { padding: 0.7rem 0.8rem; }
  .glance .value { font-size: 1.3rem; }
  th[scope="row"], thead th:first-child { min-width: 7rem; max-width: 9.5rem; }
  td .interval { display: block; }
  thead th { min-width: 4rem; }
}
@media print {
  body { background: #fff; }
  section { border: 0; padding: 0; break-inside: auto; }
  figure, table { break-inside: avoid; }
  nav, video { display: none; }
}
"""
