"""The style sheet and the script of every page."""

# Colours after Okabe and Ito 2008 (safe for the common colour-vision deficiencies), one set per scheme.
STYLE = """
:root{color-scheme:light dark;--paper:#fbfbf9;--card:#ffffff;--ink:#1b1f24;--muted:#5a626b;--line:#e2e3de;
--grid:#e8e9e5;--tuned:#0072b2;--untuned:#c65300;--matched:#00805c;--hold:#6f757c;--price:#4a5159;
--insample:#8a5a83;--warn:#7a4b00;--warn-paper:#fff4dc;--warn-line:#e0a526;--link:#005a8f;
--bad:#8c1b12;--bad-paper:#fdecea;--bad-line:#c9372c;--shade:rgba(27,31,36,.3)}
@media (prefers-color-scheme:dark){:root{--paper:#14171a;--card:#1a1e22;--ink:#e3e6e8;--muted:#9ba4ad;
--line:#2c3238;--grid:#2a2f35;--tuned:#56b4e9;--untuned:#f0a040;--matched:#2fc39a;--hold:#a3a9b0;
--price:#bcc3ca;--insample:#d79bc9;--warn:#ffd98a;--warn-paper:#2b2415;--warn-line:#b98518;--link:#7cc4f0;
--bad:#ffb9ae;--bad-paper:#331613;--bad-line:#d0524a;--shade:rgba(255,255,255,.25)}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",
Roboto,"Helvetica Neue",Arial,sans-serif;font-variant-numeric:tabular-nums}
main,header.top,footer{max-width:76rem;margin:0 auto;padding:0 1.25rem}
header.top{padding-top:2.25rem}
h1{font-size:1.7rem;line-height:1.2;font-weight:650;letter-spacing:-.012em;margin:0 0 .35rem}
h2{font-size:1.2rem;line-height:1.3;font-weight:620;margin:2.6rem 0 .5rem}
h3{font-size:1.02rem;font-weight:620;margin:1.9rem 0 .4rem}
h2 a,h3 a{color:inherit;text-decoration:none}h2 a:hover,h3 a:hover{text-decoration:underline}
section.strategy{border-top:2px solid var(--line);margin-top:3rem}section.strategy>h2{margin-top:1.2rem}
a{color:var(--link)}p{margin:.5rem 0;max-width:46rem}
p.lead{font-size:1.12rem;max-width:none}p.sub{max-width:none}p.sub,p.note,figcaption,summary,footer{color:var(--muted)}
p.note,figcaption,summary,footer{font-size:.875rem}
nav{margin:.7rem 0 0;font-size:.9rem;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem}
.banner{border:1px solid var(--warn-line);border-left-width:5px;background:var(--warn-paper);
color:var(--warn);padding:.7rem 1rem;border-radius:4px;margin:1.1rem 0 0}
.banner p{max-width:none;margin:.15rem 0}.banner ul{margin:.3rem 0;padding-left:1.2rem}
.banner.failed{border-color:var(--bad-line);background:var(--bad-paper);color:var(--bad)}
.message{white-space:pre-line;overflow-wrap:anywhere}
.tag{display:inline-block;border:1px solid var(--line);border-radius:3px;padding:0 .4em;font-size:.8em;
color:var(--muted);white-space:nowrap}
.tag.warn{border-color:var(--warn-line);background:var(--warn-paper);color:var(--warn)}
.tag.bad{border-color:var(--bad-line);background:var(--bad-paper);color:var(--bad)}
.tag.good{border-color:var(--tuned);color:var(--tuned)}
.paper{font-weight:620}.small{display:block;font-size:.8rem;color:var(--muted);font-weight:400}
.none{color:var(--muted)}.quiet{color:var(--muted)}
.scroll{overflow-x:auto;margin:.7rem 0;border-top:1px solid var(--line);border-bottom:1px solid var(--line);
background:
linear-gradient(to left,var(--paper) 1.3rem,transparent) right -1px top/2.6rem 100% no-repeat local,
linear-gradient(to left,var(--shade),transparent) right/1.2rem 100% no-repeat scroll}
.scroll:focus-visible,a:focus-visible,summary:focus-visible{outline:2px solid var(--tuned);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.875rem;line-height:1.4}
th,td{padding:.4rem .4rem;text-align:left;vertical-align:baseline}
thead th,thead td{color:var(--muted);font-weight:500;font-size:.8rem;
vertical-align:bottom;padding-bottom:.3rem}
thead th.group{border-bottom:1px solid var(--line);text-align:center}
thead th[title]:not([title=""]){text-decoration:underline dotted;text-underline-offset:3px;
text-decoration-thickness:1px;cursor:help}
tbody tr+tr>*{border-top:1px solid var(--line)}tbody th{font-weight:550}
.num{text-align:right}td.num,.nowrap{white-space:nowrap}td.num .small{white-space:normal}
tbody th:first-child,thead tr:last-child th:first-child{
position:sticky;left:0;background:var(--paper);z-index:1}
tr.band>th{padding-top:1rem;font-weight:620}tbody tr.band+tr>*{border-top-color:transparent}
tbody tr.again>*{border-top-color:transparent}
@media (min-width:641px){tr.again>th:first-child .cell{position:absolute;width:1px;height:1px;
overflow:hidden;clip-path:inset(50%)}}
svg.glyph{display:inline-block;vertical-align:-.4em}svg text{font:11px system-ui,sans-serif}
figure{margin:1rem 0 1.4rem}figcaption{max-width:46rem;margin-top:.15rem}.chart{width:100%}
dl.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.9rem 1.4rem;
margin:.9rem 0}
dl.facts div{border-top:2px solid var(--line);padding-top:.35rem}
dl.facts dt{font-size:.8rem;color:var(--muted);line-height:1.3}
dl.facts dd{margin:0;font-size:1.15rem;font-weight:600}dl.facts dd small{font-size:.8rem;color:var(--muted);
font-weight:400;display:block}
dl.words{margin:.6rem 0;max-width:46rem}dl.words dt{font-weight:600;margin-top:.6rem}dl.words dd{margin:0}
details{margin:.6rem 0}summary{cursor:pointer}
code{font:.85em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--card);border:1px solid var(--line);
border-radius:4px;padding:.6rem .8rem;margin:.5rem 0;font-size:.95rem}
footer{border-top:1px solid var(--line);margin-top:3.5rem;padding-top:.9rem;padding-bottom:2.5rem}
@media (max-width:640px){
main,header.top,footer{padding-left:1rem;padding-right:1rem}h1{font-size:1.45rem}
table.stacked,table.stacked tbody,table.stacked tr,table.stacked td,table.stacked th{display:block}
table.stacked thead{display:none}.scroll:has(table.stacked){border-bottom:0;background:none}
table.stacked tr{padding:.6rem 0}table.stacked tbody tr+tr{border-top:1px solid var(--line)}
table.stacked tbody tr+tr>*{border-top:0}table.stacked tbody th{position:static;font-size:1rem}
table.stacked td,table.stacked th{padding:.12rem 0;text-align:left;white-space:normal}
table.stacked td{display:flex;justify-content:space-between;gap:1.2rem}
table.stacked td::before{content:attr(data-label);color:var(--muted);flex:0 1 auto}
table.stacked td:has(>.cell:empty){display:none}
table.stacked td .cell{text-align:right}table.stacked td:has([title="not set"]){display:none}
}
@media print{.scroll{overflow:visible}details{display:block}nav{display:none}}
"""

# Figures lie in data blocks; colours in them are names of the style sheet, so that one figure serves both
# schemes. A chart is drawn when it comes near the screen, and again when the scheme changes.
SCRIPT = """
(() => {
  "use strict";
  const dark = matchMedia("(prefers-color-scheme: dark)"), narrow = matchMedia("(max-width: 640px)");
  const options = {responsive: true, displaylogo: false, displayModeBar: false};
  const boxes = [...document.querySelectorAll(".chart")], drawn = new Set();
  const draw = (box) => {
    const style = getComputedStyle(document.documentElement);
    const colour = (whole, name) => style.getPropertyValue(name).trim() || whole;
    const source = document.getElementById(box.id + "-data").textContent;
    const figure = JSON.parse(source.replace(/var\\((--[a-z-]+)\\)/g, colour));
    if (narrow.matches) figure.layout.dragmode = false;
    drawn.add(box);
    Plotly.react(box, figure.data, figure.layout, options);
  };
  const watch = new IntersectionObserver((entries) => {
    for (const {isIntersecting, target} of entries) {
      if (isIntersecting) { watch.unobserve(target); draw(target); }
    }
  }, {rootMargin: "600px"});
  boxes.forEach((box) => watch.observe(box));
  dark.addEventListener("change", () => drawn.forEach(draw));
  addEventListener("beforeprint", () => boxes.forEach((box) => drawn.has(box) || draw(box)));
})();
"""
