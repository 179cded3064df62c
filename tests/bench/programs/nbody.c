// Five bodies under gravity, AMOUNT steps: scalar floating point, a division and a root in each
// inner step, hardly a branch that is not a loop.
#include <math.h>

#include "arguments.h"

enum { kBodies = 5 };

struct body {
  double place[3], velocity[3], mass;
};

static struct body bodies[kBodies] = {
    {{0, 0, 0}, {0, 0, 0}, 39.5},
    {{4.84, -1.16, -0.10}, {0.61, 2.81, -0.02}, 0.0377},
    {{8.34, 4.12, -0.40}, {-1.01, 1.82, 0.008}, 0.0113},
    {{12.9, -15.1, -0.22}, {1.08, 0.87, -0.01}, 0.0017},
    {{15.4, -25.9, 0.18}, {0.98, 0.59, -0.035}, 0.0020},
};

static void attract(struct body* a, struct body* b, double dt) {
  double gap[3], square = 0;
  for (int i = 0; i < 3; ++i) {
    gap[i] = a->place[i] - b->place[i];
    square += gap[i] * gap[i];
  }
  const double pull = dt / (square * sqrt(square));
  for (int i = 0; i < 3; ++i) {
    a->velocity[i] -= gap[i] * b->mass * pull;
    b->velocity[i] += gap[i] * a->mass * pull;
  }
}

static void step(double dt) {
  for (int a = 0; a < kBodies; ++a) {
    for (int b = a + 1; b < kBodies; ++b) attract(&bodies[a], &bodies[b], dt);
  }
  for (int a = 0; a < kBodies; ++a) {
    for (int i = 0; i < 3; ++i) bodies[a].place[i] += dt * bodies[a].velocity[i];
  }
}

int main(int argc, char** argv) {
  for (long left = amount_of_work(argc, argv); left > 0; --left) step(0.001);
  for (int a = 0; a < kBodies; ++a) {
    printf("%.12f %.12f %.12f\n", bodies[a].place[0], bodies[a].place[1], bodies[a].place[2]);
  }
  return 0;
}
