# program: single
# environment: DUNEBOX_CRASH=1
start_program
backtrace
print where
print $_siginfo.si_signo
print $_siginfo._sifields._sigfault.si_addr
continue
