"""The part of every Verilated model that is ours: C++ that drives the accelerator and serves its external memory."""

from __future__ import annotations

from codesign_kernel.cosim.job import COUNTER

#: Behind the sources of a model whose prefix is ``Vcore``, CORE being the name of its top.
HARNESS = (
    f"#define COUNTER(m) ((m)->rootp->CORE__DOT__{COUNTER})\n"
    + """
#include "Vcore.h"
#include "Vcore___024root.h"
#include "verilated.h"
#include <cstring>
#if VM_COVERAGE
#include "verilated_cov.h"
#endif
#if VM_TRACE
#include "verilated_vcd_c.h"
static VerilatedVcdC* waves = nullptr;
static unsigned long long first_cycle, last_cycle;
#define DUMP(cycle, half) \\
  if (waves && (cycle) >= first_cycle && (cycle) <= last_cycle) waves->dump((uint64_t)(2 * (cycle) + half));
#else
#define DUMP(cycle, half)
#endif
#if VM_TRACE
#define EVAL(m) (m)->eval()
#else
// what eval() does beside: it locks two queues, empty here, of objects to delete and of messages
#define EVAL(m) Vcore___024root___eval((m)->rootp)
#endif
static void tick(Vcore* m) { m->clk = 1; EVAL(m); m->clk = 0; EVAL(m); }
extern "C" {
void core_reset(Vcore* m) { m->rst = 1; m->start = 0; EVAL(m); tick(m); tick(m); m->rst = 0; EVAL(m); }
Vcore* core_new() {
  // one context a model: a waveform is of all models of its context, those that are gone too
  VerilatedContext* context = new VerilatedContext;
  context->traceEverOn(VM_TRACE);
  Vcore* m = new Vcore(context);
  m->clk = 0; m->prog_we = 0; m->rst = 1; m->start = 0;
  m->eval();  // the first one gives everything its initial value
  core_reset(m);
  return m;
}
#if VM_TRACE
void core_trace(Vcore* m, const char* path, unsigned long long first, unsigned long long last) {
  waves = new VerilatedVcdC; first_cycle = first; last_cycle = last;
  m->trace(waves, 99); waves->set_time_unit("1ns"); waves->set_time_resolution("1ns"); waves->open(path);
}
void core_trace_end(Vcore* m) { if (waves) { waves->close(); delete waves; waves = nullptr; } }
#endif
#if VM_COVERAGE
void core_coverage(Vcore* m, const char* path) { m->contextp()->coveragep()->write(path); }
#endif
void core_free(Vcore* m) { VerilatedContext* context = m->contextp(); m->final(); delete m; delete context; }
void core_program(Vcore* m, unsigned count, const unsigned char* words, unsigned bytes) {
  m->prog_we = 1;
  for (unsigned i = 0; i < count; i++) {
    m->prog_addr = i; std::memcpy(&m->prog_data, words + (size_t)i * bytes, bytes); EVAL(m); tick(m);
  }
  // what stands at the port while nothing is written must not matter
  m->prog_we = 0; m->prog_addr = 0; std::memset(&m->prog_data, 0xff, bytes); EVAL(m);
}
int core_run(Vcore* m, unsigned entry, unsigned char* memory, size_t size, unsigned beat, unsigned long long limit,
             unsigned latency, unsigned* cycles, unsigned* issues, unsigned room, unsigned* issued) {
  m->entry = entry; m->start = 1; EVAL(m);
  m->clk = 1; EVAL(m); DUMP(0, 0) m->clk = 0; m->start = 0; EVAL(m); DUMP(0, 1)
  unsigned next = COUNTER(m), count = 0, wait = 0, left = 0;
  bool writing = false;
  unsigned end = 0;  // where the announced words end
  bool reached = true;
  for (unsigned long long n = 0; m->busy; n++) {
    if (n > limit) return 1;
    if (m->error) return 2;
    if (m->ext_request) { if (!reached) return 4; end = m->ext_addr + m->ext_beats; }
    reached = (reached && !m->ext_request) || m->ext_addr == end;
    // a load's first word comes so many cycles late, and the end of a SAVE so many after its last one
    if (m->ext_request) { writing = m->ext_write; left = m->ext_beats; wait = writing ? 0 : latency; }
    if (m->ext_we && !writing) return 4;
    if (m->ext_we && --left == 0) wait = latency;
    m->ext_ready = writing || !wait; m->ext_idle = !writing || (!left && !wait); EVAL(m);
    if (wait) wait--;
    size_t at = (size_t)m->ext_addr * beat;
    bool inside = at + beat <= size;
    unsigned char read[128] = {0};
    if (m->ext_we) { if (!inside) return 3; std::memcpy(memory + at, &m->ext_wdata, beat); }
    if (inside) std::memcpy(read, memory + at, beat);
    m->clk = 1; EVAL(m); DUMP(n + 1, 0)
    m->clk = 0; std::memcpy(&m->ext_rdata, read, beat); EVAL(m); DUMP(n + 1, 1)
    if (COUNTER(m) != next) { next = COUNTER(m); if (count < room) issues[count++] = m->cycles; }
  }
  if (!reached && !m->error) return 4;
  *cycles = m->cycles; *issued = count;
  return m->error ? 2 : 0;
}
}
"""
)
