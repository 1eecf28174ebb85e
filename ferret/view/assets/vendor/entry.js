export { FlameChartContainer, TimeframeSelectorPlugin, TimeGridPlugin, UIPlugin } from 'flame-chart-js';
