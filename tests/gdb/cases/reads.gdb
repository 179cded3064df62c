# program: single
break look
start_program
rwatch watched.word
continue
continue
continue
continue
backtrace 1
delete
continue
