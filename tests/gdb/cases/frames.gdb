# program: single
break main
start_program
backtrace
break depth if n == 1
continue
backtrace
print *point
up
print n
delete
tbreak count
continue
next
next
print counter
set variable counter = 1000
print counter
print add(20, 22)
print $_siginfo.si_signo >= 0
tbreak vectors
continue
next
next
next
print $xmm7.v2_double[0]
print $st0
print $eflags & 0x100
info symbol $pc
continue
