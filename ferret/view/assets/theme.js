// Colours. The styles have those of the page; what is drawn on a canvas takes them from there.

const HUES = [215, 35, 265, 160, 330, 190, 50, 290, 125, 15, 235, 85];
const dark = window.matchMedia("(prefers-color-scheme: dark)");

/** The colour of that name in the styles, as it is now. */
function themed(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function hashed(text) {
  let hash = 2166136261;
  for (let i = 0; i < text.length && i < 300; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 16777619);
  return hash >>> 0;
}

/**
 * A colour for each name: one hue for a module, by the order in which modules turn up, and shades for what is in it.
 * Where there are hardly any modules, each name has a hue.
 */
function coloursOf(names, opacity = 1) {
  const [saturation, lightness] = dark.matches ? [36, 36] : [64, 79];
  const modules = names.map((name) => name.slice(0, Math.max(name.lastIndexOf("."), 0)) || name);
  const groups = new Set(modules).size > 3 ? modules : names;
  const hues = new Map();
  return names.map((name, i) => {
    if (!hues.has(groups[i])) hues.set(groups[i], HUES[hues.size % HUES.length]);
    const shade = hashed(name);
    const hue = hues.get(groups[i]) + (shade % 15) - 7;
    return `hsl(${hue} ${saturation + ((shade >> 8) % 16)}% ${lightness + ((shade >> 16) % 11) - 6}% / ${opacity})`;
  });
}
