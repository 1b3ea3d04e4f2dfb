'use strict';
readAddress();
summary();
show();
performance.mark('listed');
drawPlots();
