// The style sheet of report pages; light and dark.
#pragma once

namespace stemfabric {

inline constexpr const char* kPageStyle = R"css(
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5c6675; --line: #dde2ea; --page: #f6f7f9;
  --card: #ffffff; --blue: #2563c9; --blue-soft: #2563c926; --orange: #d9730d; --green: #1a7f4b;
  --red: #b93a32; --note: #fff6e0; --note-line: #e3b341; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --soft: #9aa5b4; --line: #323a46;
  --page: #14181e; --card: #1c222b; --blue: #6ea0f5; --blue-soft: #6ea0f530; --orange: #f0a04b;
  --green: #4cc38a; --red: #f07f76; --note: #2d2613; --note-line: #8a6d1f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; letter-spacing: -0.01em; }
main > h1:not(:first-child) { margin-top: 48px; }
h2 { font-size: 18px; margin: 36px 0 12px; }
h3 { font-size: 14px; margin: 0 0 8px; }
p { margin: 0 0 12px; } .sub { color: var(--soft); margin-bottom: 20px; overflow-wrap: anywhere; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px; }
.grid { display: grid; gap: 14px; }
.four { grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); }
.three { grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); }
.two { grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); }
.big { font-size: 30px; font-weight: 650; letter-spacing: -0.02em; line-height: 1.2; }
.big small { font-size: 15px; font-weight: 400; color: var(--soft); }
.name { color: var(--soft); font-size: 13px; } .hint { color: var(--soft); font-size: 13px; }
.note { background: var(--note); border: 1px solid var(--note-line); border-radius: 10px;
  padding: 12px 16px; margin-bottom: 18px; }
.met { color: var(--green); font-weight: 600; } .missed { color: var(--red); font-weight: 600; }
.scroll { overflow-x: auto; padding: 4px 8px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 8px; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: 13px; }
th:first-child, td:first-child { text-align: left; }
tbody tr:last-child td { border-bottom: 0; } tr.all td { font-weight: 650; }
th.group { text-align: center; border-bottom: 1px solid var(--line); }
td.first, th.first { border-left: 1px solid var(--line); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
pre { margin: 0; font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
code { font: 13px ui-monospace, "DejaVu Sans Mono", monospace; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font-size: 12px; } svg text.label { fill: var(--ink); font-size: 13px; }
line.grid { stroke: var(--line); stroke-width: 1; }
line.axis { stroke: var(--soft); stroke-width: 1; }
.series { fill: none; stroke-width: 2; stroke-linejoin: round; }
.series-0 { stroke: var(--blue); } .series-1 { stroke: var(--orange); }
.dot-0 { fill: var(--blue); } .dot-1 { fill: var(--orange); }
.box { fill: var(--blue-soft); stroke: var(--blue); stroke-width: 1.5; }
.whisker { stroke: var(--blue); stroke-width: 1.5; } .median { stroke: var(--blue); stroke-width: 3; }
.dot { fill: var(--blue); opacity: 0.5; }
.baseline { stroke: var(--orange); stroke-width: 2.5; }
.target { stroke: var(--green); stroke-width: 1.5; stroke-dasharray: 6 4; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; color: var(--soft); font-size: 13px;
  margin-top: 6px; }
.legend span { display: inline-flex; align-items: center; gap: 7px; }
.key { display: inline-block; width: 16px; height: 3px; border-radius: 2px; }
.key-0 { background: var(--blue); } .key-1 { background: var(--orange); }
.key-target { height: 0; border-radius: 0; border-top: 2px dashed var(--green); } .none { color: var(--soft); }
.bar { height: 10px; border-radius: 3px; background: var(--blue); min-width: 1px; }
td img { display: block; image-rendering: pixelated; border-radius: 4px; }
td audio { width: 360px; height: 34px; }
td.wide { width: 50%; text-align: left; }
@media print { body { background: none; } .card { break-inside: avoid; } }
)css";

}  // namespace stemfabric
